"""A method's state is saved as plain data, and a new adapter goes on from it bit for bit."""

import copy
import itertools
import json
import random
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from ttt_bench import Adapter, ClassSet, Prediction, Task, UserError, load_backbone
from ttt_bench.engine.state.packed import EncodedState, unpack
from ttt_bench.runs.states import StateFiles

KEY = "0123456789"
Pair = namedtuple("Pair", ["mean", "count"])


@cache
def backbone():
    return load_backbone("tiny-clip", "cpu")


@dataclass(slots=True)
class Slotted:
    total: float
    items: list[int]


class Sharpness(torch.optim.SGD):
    """An optimizer with another one inside, on the same groups."""

    def __init__(self, parameters):
        super().__init__(parameters, lr=0.1)
        self.base = torch.optim.SGD(self.param_groups, lr=0.1, momentum=0.9)

    def step(self):
        for group in self.param_groups:
            for parameter in group["params"]:
                seen = self.state[parameter].get("seen", 0)
                self.state[parameter]["seen"] = seen + parameter.detach().sum()
        self.base.step()


class Everything(Adapter):
    """Keeps state of every kind, and makes a number of all of it."""

    def setup(self, task):
        super().setup(task)
        torch.manual_seed(0)
        self.optimizer_first = None
        self.net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.net.register_buffer("unsaved", torch.zeros(2), persistent=False)
        self.teacher = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.optimizer_first = torch.optim.Adam(self.net.parameters(), 0.01)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer_first, 2, 0.5)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1)
        self.weights = torch.ones(3, requires_grad=True)
        self.same_weights = self.weights
        self.sharpness = Sharpness([self.weights])
        self.frozen = self.task.backbone.model
        self.classify = self.task.logits
        self.double = lambda value: 2 * value
        self.generators = {
            "torch": torch.Generator().manual_seed(1),
            "numpy": np.random.default_rng(2),
            "python": random.Random(3),
        }
        self.begin()

    def begin(self):
        self.count, self.label, self.worst = 0, "start", float("inf")
        self.memory = []
        self.last = deque(maxlen=2)
        self.classes = {3: [1.0], (1, "a"): {"inner": {5, 6}}}
        self.by_class = defaultdict(list)
        self.seen = Counter()
        self.ordered = OrderedDict()
        self.pair = Pair(torch.zeros(2), 0)
        self.slotted = Slotted(0.0, [])
        self.array = np.zeros((2, 3), np.float16)
        self.small = torch.zeros(2, dtype=torch.bfloat16)
        self.wide = torch.zeros(1, 2, 3, 3).to(memory_format=torch.channels_last)
        self.flat = torch.zeros(6)
        self.row = self.flat.view(2, 3)[1]
        self.me = [self]

    def advance(self):
        """Change everything, and return a number that depends on all of it."""
        inputs = torch.randn(5, 4, generator=self.generators["torch"])
        loss = self.net(inputs).square().mean() + self.net.unsaved.sum()
        self.optimizer_first.zero_grad()
        loss.backward()
        self.optimizer_first.step()
        self.scheduler.step()
        self.scaler.scale(loss.detach())
        (self.same_weights * inputs[:3, 0]).sum().backward()
        self.sharpness.step()
        with torch.no_grad():
            self.net.unsaved += 1
            for slow, fast in zip(self.teacher.parameters(), self.net.parameters(), strict=True):
                slow.mul_(0.9).add_(fast, alpha=0.1)
            output = self.teacher(inputs)
        self.count += 1
        self.label += "."
        self.worst = min(self.worst, float(loss.detach()))
        self.memory += list(output)
        self.last.append(output[0])
        self.classes[3].append(float(self.generators["numpy"].random()))
        self.by_class[self.count % 2].append(output[1].clone())
        self.seen[self.label] += 1
        self.ordered[self.label] = self.generators["python"].random()
        self.pair = Pair(self.pair.mean + output[0], self.pair.count + 1)
        self.slotted.total += 0.1
        self.slotted.items.append(self.count)
        self.array += np.float16(0.1)
        self.small += 0.1
        self.wide += output.mean()
        self.flat += 0.5
        self.row += 0.25
        self.me[0].late = torch.full((2,), self.count)
        return self.total()

    def total(self):
        tensors = [
            *self.memory, *self.last, *self.by_class[0], *self.by_class[1], self.pair.mean,
            self.flat, self.wide, self.small.float(), self.weights.detach(), self.net.unsaved,
            *(one.detach() for one in self.net.state_dict().values()),
            self.sharpness.state[self.weights]["seen"], self.late,
        ]  # fmt: skip
        numbers = [
            self.count, self.worst, self.slotted.total, *self.slotted.items, *self.classes[3],
            *self.ordered.values(), float(self.array.sum()), self.scaler.get_scale(),
            *self.scheduler.get_last_lr(), len(self.label), sum(self.seen.values()),
        ]  # fmt: skip
        return [float(one.double().sum()) for one in tensors] + [float(one) for one in numbers]

    def adapt(self, samples, rngs):
        return [Prediction(torch.zeros(2)) for _ in samples]


def fresh(adapter_type=Everything):
    adapter = adapter_type(adapter_type.Config())
    adapter.setup(Task(backbone(), ClassSet(("cat", "dog"))))
    return adapter


def restored(adapter):
    """A new adapter with the state of another one."""
    new = fresh(type(adapter))
    unpack(new, new.task, EncodedState(adapter).pack())
    return new


@pytest.mark.parametrize("border", [0, 1, 3])
def test_an_adapter_with_state_of_every_kind_goes_on_bit_for_bit(border: int):
    adapter = fresh()
    for _ in range(border):
        adapter.advance()
    other = restored(adapter)
    for _ in range(3):
        assert other.advance() == adapter.advance()


def test_what_attributes_share_is_shared_afterwards_and_networks_stay_the_objects():
    adapter = fresh()
    adapter.advance()
    new = fresh()
    net, parameters, weights = new.net, list(new.net.parameters()), new.weights
    unpack(new, new.task, EncodedState(adapter).pack())
    assert new.net is net
    assert new.weights is weights
    assert new.same_weights is weights
    assert all(a is b for a, b in zip(new.net.parameters(), parameters, strict=True))
    assert new.sharpness.base.param_groups[0]["params"][0] is weights
    assert new.me[0] is new
    assert new.frozen is new.task.backbone.model
    new.flat.zero_()
    assert new.row.abs().sum() == 0
    assert new.wide.is_contiguous(memory_format=torch.channels_last)
    assert new.last.maxlen == 2
    assert type(new.seen) is Counter


def test_a_value_that_was_the_tasks_is_never_written_into():
    class Drifts(Everything):
        def setup(self, task):
            super().setup(task)
            self.parameter = next(task.backbone.model.parameters())

    adapter = fresh(Drifts)
    before = adapter.parameter.detach().clone()
    adapter.parameter = nn.Parameter(adapter.parameter.detach() + 1, requires_grad=False)
    new = restored(adapter)
    assert torch.equal(new.parameter, before + 1)
    assert torch.equal(next(backbone().model.parameters()), before)


def test_attributes_that_were_one_object_after_setup_may_differ_later():
    class Splits(Everything):
        def begin(self):
            super().begin()
            self.one = self.other = nn.Parameter(torch.zeros(2))

    adapter = fresh(Splits)
    adapter.one = nn.Parameter(torch.ones(2))
    new = restored(adapter)
    assert new.one.tolist() == [1, 1]
    assert new.other.tolist() == [0, 0]


class Chosen(Everything):
    """Says itself what its state is."""

    def setup(self, task):
        Adapter.setup(self, task)
        self.mean, self.unsaveable = torch.zeros(2), itertools.count()

    def state(self):
        return {"mean": self.mean}

    def load_state(self, state):
        self.mean = state["mean"]


def test_an_author_may_say_what_the_state_is():
    adapter = fresh(Chosen)
    adapter.mean += 2
    new = restored(adapter)
    assert new.mean.tolist() == [2, 2]
    assert next(new.unsaveable) == 0


class Prepared(Everything):
    """Has a table that is the same for every stream."""

    def setup(self, task):
        super().setup(task)
        self.table = task.once("table", lambda: torch.rand(1000))


def test_what_a_task_makes_once_is_shared_by_its_streams_and_no_state():
    adapter = fresh(Prepared)
    second = Prepared(adapter.config)
    second.setup(adapter.task)
    assert second.table is adapter.table
    new = restored(adapter)
    assert new.table is new.task.made["table"]
    assert new.table is not adapter.table
    assert EncodedState(adapter).size < EncodedState(fresh()).size + adapter.table.nbytes


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (itertools.count(), "itertools.count"),
        (iter([1]), "list_iterator"),
        (b"bytes", "bytes"),
        ({"inner": [torch.zeros(1).to_sparse()]}, "sparse"),
        (np.array([None]), "array of object"),
        (defaultdict(lambda: 0), "code of its own"),
    ],
)
def test_what_cannot_be_saved_is_named_with_its_attribute(value, named: str):
    adapter = fresh()
    adapter.odd = value
    with pytest.raises(UserError) as raised:
        EncodedState(adapter)
    assert "Everything['odd']" in str(raised.value)
    assert named in str(raised.value)
    assert "\n" not in str(raised.value)


class Late(Everything):
    """Makes in `advance` what belongs into setup."""

    def setup(self, task):
        super().setup(task)
        self.optimizer_first, self.net = None, None


def test_a_network_made_after_setup_is_named():
    adapter = fresh(Late)
    adapter.net = nn.Linear(2, 2)
    with pytest.raises(UserError, match=r"Late\['net'\] is not there after setup"):
        restored(adapter)


def test_no_class_but_the_methods_own_is_looked_up():
    adapter = fresh()
    adapter.odd = random.Random
    content = EncodedState(adapter).pack()
    adapter.odd = Slotted(1.0, [])
    forged = EncodedState(adapter).pack()
    name = json.dumps("tests.test_stream_state:Slotted").encode()[1:-1]
    other = b"subprocess:Popen".ljust(len(name), b"_")
    assert name in forged
    with pytest.raises(UserError, match="subprocess"):
        unpack(fresh(), fresh().task, forged.replace(name, other))
    with pytest.raises(UserError, match="which setup does not make"):
        unpack(fresh(), fresh().task, content)


def test_a_state_file_is_safetensors_and_bound_to_its_run_and_chunk(tmp_path):
    states = StateFiles(tmp_path / "states")
    content = EncodedState(fresh()).pack()
    for number in (3, 12):
        states.write(number, content, KEY)
    with safe_open(states.file(3), "pt") as opened:
        assert set(opened.metadata()) == {"tree", "run", "chunk", "sha256"}
        assert len(list(opened.keys())) > 10
    new = fresh()
    unpack(new, new.task, states.read(3, KEY))
    assert states.numbers() == [3, 12]
    with pytest.raises(UserError, match="another run"):
        states.read(3, "another")
    states.file(3).rename(states.file(4))
    with pytest.raises(UserError, match="another run or chunk"):
        states.read(4, KEY)
    damaged = bytearray(states.file(12).read_bytes())
    for place in (4, 100, len(damaged) // 2, len(damaged) - 1):
        states.file(12).write_bytes(
            damaged[:place] + bytes([damaged[place] ^ 1]) + damaged[place + 1 :]
        )
        with pytest.raises(UserError, match="is damaged"):
            states.read(12, KEY)
    states.drop([4, 12])
    assert not states.path.exists()
