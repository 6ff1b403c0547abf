"""How does a network become sparse while it learns?

``METHODS`` are for the verb ``fit``. The other names are for any ``torch.nn.Module`` in your own loop.
"""

from sparelu.method import Method
from sparelu.train.at_init import grasp as grasp
from sparelu.train.at_init import sanity_checks as sanity_checks
from sparelu.train.at_init import snip as snip
from sparelu.train.at_init import synflow as synflow
from sparelu.train.channels import remove_channels as remove_channels
from sparelu.train.chase import Chase as Chase
from sparelu.train.chase import Removal as Removal
from sparelu.train.chase import SoftBound as SoftBound
from sparelu.train.chase_fit import ChaseTraining
from sparelu.train.convnets import small_conv as small_conv
from sparelu.train.convnets import small_resnet as small_resnet
from sparelu.train.dynamic import MEST as MEST
from sparelu.train.dynamic import SET as SET
from sparelu.train.dynamic import SNFS as SNFS
from sparelu.train.dynamic import RigL as RigL
from sparelu.train.engine_methods import ENGINE_METHODS
from sparelu.train.execution import LayerTiming as LayerTiming
from sparelu.train.execution import SlowerSparseWarning as SlowerSparseWarning
from sparelu.train.execution import to_sparse as to_sparse
from sparelu.train.imp import IterativePruning
from sparelu.train.live_start import scale_to_living as scale_to_living
from sparelu.train.lottery import descend as descend
from sparelu.train.lottery_start import tensor_start as tensor_start
from sparelu.train.magnitude import GradualPruning, OneShotPruning
from sparelu.train.oneshot import sparsegpt as sparsegpt
from sparelu.train.oneshot import wanda as wanda
from sparelu.train.pags import select_by_topology as select_by_topology
from sparelu.train.parts import LayerCollapseWarning as LayerCollapseWarning
from sparelu.train.plans import ITOP_RIGL as ITOP_RIGL
from sparelu.train.plans import ITOP_SET as ITOP_SET
from sparelu.train.plans import Exploration as Exploration
from sparelu.train.plans import Fixed as Fixed
from sparelu.train.plans import Gradual as Gradual
from sparelu.train.rewinding import winning_tickets as winning_tickets
from sparelu.train.sparse_file import load_sparse as load_sparse
from sparelu.train.sparse_file import save_sparse as save_sparse
from sparelu.train.sparse_growth import SparseGrowth as SparseGrowth
from sparelu.train.sparse_linear import SparseLinear as SparseLinear
from sparelu.train.sparsifier import Rule as Rule
from sparelu.train.sparsifier import Sparsifier as Sparsifier
from sparelu.train.static import GradualMagnitude as GradualMagnitude
from sparelu.train.static import Magnitude as Magnitude
from sparelu.train.static import Static as Static
from sparelu.train.topology import diagnose as diagnose
from sparelu.train.topology import diagnose_layers as diagnose_layers

METHODS: tuple[type[Method], ...] = (GradualPruning, OneShotPruning, IterativePruning, *ENGINE_METHODS, ChaseTraining)
