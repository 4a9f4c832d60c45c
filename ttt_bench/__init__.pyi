# The public names, each once. `ttt_bench/__init__.py` loads them from here on first use.
# Datasets that can be downloaded
from .api.acquisition import Archive as Archive
from .api.acquisition import HowToGet as HowToGet

# Methods
from .api.adapter import Adapter as Adapter
from .api.adapter import AdapterConfig as AdapterConfig

# Backbones
from .api.backbone import Backbone as Backbone
from .api.backbone import BatchNormClassifier as BatchNormClassifier
from .api.backbone import Classifier as Classifier
from .api.backbone import DualEncoder as DualEncoder
from .api.backbone import FeatureClassifier as FeatureClassifier
from .api.backbone import MaskedAutoencoder as MaskedAutoencoder
from .api.backbone import PatchEncoder as PatchEncoder
from .api.backbone import TrainableClassifier as TrainableClassifier
from .api.backbone import Transform as Transform
from .api.class_set import ClassSet as ClassSet
from .api.cost import Counter as Counter

# Datasets
from .api.dataset import Dataset as Dataset
from .api.dataset import Entry as Entry
from .api.errors import UserError as UserError

# Hooks, and what they are told
from .api.events import Run as Run

# Executors
from .api.executor import Chain as Chain
from .api.executor import Chunk as Chunk
from .api.executor import ChunkResult as ChunkResult
from .api.executor import Executor as Executor
from .api.executor import LostStateError as LostStateError
from .api.executor import RecordsWithState as RecordsWithState
from .api.executor import UnreadableImages as UnreadableImages
from .api.executor import Worker as Worker
from .api.executor import WorkerSpec as WorkerSpec
from .api.executor import chains as chains
from .api.hookspecs import hookimpl as hookimpl
from .api.inputs import Inputs as Inputs
from .api.inputs import NormalDraw as NormalDraw
from .api.on_disk import OnDisk as OnDisk
from .api.on_disk import find_folder as find_folder
from .api.on_disk import open_image as open_image
from .api.records import Records as Records

# References
from .api.reference import PrintedNames as PrintedNames
from .api.reference import Publication as Publication
from .api.reference import Row as Row
from .api.reference import Table as Table
from .api.reference import read_table as read_table
from .api.regular_files import require_regular as require_regular
from .api.sample import Prediction as Prediction
from .api.sample import Sample as Sample
from .api.sample import SampleRNG as SampleRNG

# Specs
from .api.specs import CLASSIFIER_FAMILY as CLASSIFIER_FAMILY
from .api.specs import CLIP_FAMILY as CLIP_FAMILY
from .api.specs import AdapterSpec as AdapterSpec
from .api.specs import BackboneFamily as BackboneFamily
from .api.specs import BackboneSpec as BackboneSpec
from .api.specs import DatasetSpec as DatasetSpec
from .api.specs import ExecutorSpec as ExecutorSpec
from .api.specs import GoldenSpec as GoldenSpec
from .api.specs import MetricSpec as MetricSpec
from .api.specs import ReferenceSpec as ReferenceSpec
from .api.specs import TrackerSpec as TrackerSpec
from .api.task import Task as Task

# Trackers
from .api.tracker import Tracker as Tracker
from .api.views import DrawnViews as DrawnViews
from .api.views import ViewSet as ViewSet
from .api.working_copy import WorkingCopy as WorkingCopy

# Built-in backbones and datasets to build on
from .backbones.timm_classifier import TimmBackbone as TimmBackbone

# The cache
from .cache.store import Store as Store
from .cache.store import Stored as Stored

# Finished runs
from .compare.export import export_runs as export_runs
from .datasets.corruptions import CorruptedEntries as CorruptedEntries
from .datasets.corruptions import CorruptionSelection as CorruptionSelection
from .datasets.corruptions import corrupt as corrupt
from .datasets.corruptions import parse_conditions as parse_conditions
from .datasets.imagenet import IMAGENET_CLASS_SET as IMAGENET_CLASS_SET
from .datasets.imagenet_c import imagenet_c_crop as imagenet_c_crop

# By name
from .datasets.loading import load_dataset as load_dataset
from .engine.loading import choose_device as choose_device
from .engine.loading import default_backbone as default_backbone
from .engine.loading import load_backbone as load_backbone

# From Python: runs, and what came of them
from .python.results import Compared as Compared
from .python.results import Results as Results
from .python.results import load as load
from .python.running import run as run
from .registry import registered as registered

# Tools
from .toolkit.atomic import atomic_write as atomic_write
from .toolkit.batch_invariant import batch_invariant_matmul as batch_invariant_matmul
from .toolkit.checkpoint_config import CheckpointConfig as CheckpointConfig
from .toolkit.checkpoints import file_hash as file_hash
from .toolkit.checkpoints import read_checkpoint as read_checkpoint
from .toolkit.checkpoints import save_checkpoint as save_checkpoint
from .toolkit.losses import entropy as entropy
from .toolkit.losses import marginal_entropy as marginal_entropy
from .toolkit.losses import select_confident as select_confident
from .toolkit.seeded import GlobalGenerator as GlobalGenerator
from .toolkit.seeded import seeded as seeded
from .toolkit.training_folder import TrainingFolder as TrainingFolder
from .toolkit.training_run import Epoch as Epoch
from .toolkit.training_run import TrainingRun as TrainingRun

# Views
from .views.augmix import AugMixViews as AugMixViews
from .views.crops import CropViews as CropViews
