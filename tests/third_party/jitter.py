"""A plugin as a third party would write it: a method, a metric and a command in one file."""

from ttt_bench import AdapterSpec, MetricSpec, hookimpl


@hookimpl
def ttt_bench_adapters():
    return [
        AdapterSpec(name="jitter", summary="zero-shot plus a little noise", code="jitter:adapter")
    ]


@hookimpl
def ttt_bench_metrics():
    return [MetricSpec(name="error", summary="100 - top-1", code="jitter:error")]


@hookimpl
def ttt_bench_commands(cli):
    @cli.command()
    def greet():
        """Say hello."""
        print("hello from a plugin")


def error(records):
    return float(100 * (records.prediction != records.label).mean())


def __getattr__(name):
    if name != "adapter":
        raise AttributeError(name)

    from ttt_bench import Adapter, Prediction

    class Jitter(Adapter):
        """Zero-shot logits, then noise on them in three steps."""

        def adapt(self, samples, rngs):
            import torch

            predictions = []
            for feature, rng in zip(self.task.encode_image(samples), rngs, strict=True):
                logits = self.task.logits(feature)
                noise = torch.randn(3, len(logits), generator=rng.torch("noise"))
                steps = logits + 0.01 * noise.cumsum(0)
                predictions.append(Prediction(steps[-1], steps))
            return predictions

    return Jitter
