"""Regular files of bounded size: the only ones that are read from a place anybody can write to.

A named pipe would be waited for without end, and a link to a device such as /dev/zero never ends.
"""

import stat
from pathlib import Path

from ttt_bench.api.errors import UserError

OTHER_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def require_regular(path: Path, at_most: int) -> None:
    """Refuse anything but a regular file of at most so many bytes; links are followed.

    Args:
        path: the file that is about to be read.
        at_most: the largest size in bytes that such a file may have.

    Raises:
        UserError: there is no such file, it is of another kind, or it is larger.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: there is no such file; give the path of one") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give the path of a readable file") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r}: not a file name ({error}); give another") from error
    if not stat.S_ISREG(status.st_mode):
        kind = OTHER_KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
        raise UserError(f"{path}: is {kind}; give a regular file")
    if status.st_size > at_most:
        raise UserError(
            f"{path}: has {status.st_size:,} bytes, more than the {at_most:,} that such a file can "
            "have; give another"
        )
