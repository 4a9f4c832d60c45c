"""The loss of CLIPArTT and WATT: images and their texts are as alike as both are among themselves.

Source: CLIPArTT (Hakim et al. 2024, arXiv 2405.00754, section 3.2), WATT (Osowiechi et al. 2024,
    arXiv 2406.13875, section 3.2).
"""

from jaxtyping import Float
from torch import Tensor

TEMPERATURE = 0.01


def alignment_loss(
    images: Float[Tensor, "batch dim"],
    texts: Float[Tensor, "batch dim"],
    scale: Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return the cross entropy between the likeness of images and texts and its target.

    The target is the mean likeness of the images among themselves and of the texts among
    themselves; gradients run through it. As released, it is normalized over images and compared
    with a distribution over texts.

    Args:
        images: unit features of the images.
        texts: the unit feature of a text for each image.
        scale: the factor of cosines.
    """
    target = (images @ images.T + texts @ texts.T) / 2 / TEMPERATURE
    target = target.softmax(dim=0)  # (images, texts)
    log_p = (scale * images @ texts.T).log_softmax(dim=1)  # (images, texts)
    return -(target * log_p).sum() / len(images)
