"""How does a network become sparse while it learns?

The names here are for any ``torch.nn.Module`` in your own loop; ``fit`` has the same methods for the verb ``fit``.
"""

from sparelu.nn.file import load_sparse as load_sparse
from sparelu.nn.file import save_sparse as save_sparse
from sparelu.nn.sparse_linear import SparseLinear as SparseLinear
from sparelu.nn.to_sparse import LayerTiming as LayerTiming
from sparelu.nn.to_sparse import SlowerSparseWarning as SlowerSparseWarning
from sparelu.nn.to_sparse import to_sparse as to_sparse
from sparelu.train.analysis.convnets import small_conv as small_conv
from sparelu.train.analysis.convnets import small_resnet as small_resnet
from sparelu.train.analysis.mask_topology import diagnose as diagnose
from sparelu.train.analysis.mask_topology import diagnose_layers as diagnose_layers
from sparelu.train.analysis.pags import select_by_topology as select_by_topology
from sparelu.train.analysis.teacher_student import descend as descend
from sparelu.train.analysis.tensor_init import tensor_start as tensor_start
from sparelu.train.at_init import grasp as grasp
from sparelu.train.at_init import sanity_checks as sanity_checks
from sparelu.train.at_init import snip as snip
from sparelu.train.at_init import synflow as synflow
from sparelu.train.channels.chase import Chase as Chase
from sparelu.train.channels.chase import Removal as Removal
from sparelu.train.channels.chase import SoftBound as SoftBound
from sparelu.train.channels.remove import remove_channels as remove_channels
from sparelu.train.dynamic import MEST as MEST
from sparelu.train.dynamic import SET as SET
from sparelu.train.dynamic import SNFS as SNFS
from sparelu.train.dynamic import RigL as RigL
from sparelu.train.lottery_ticket import winning_tickets as winning_tickets
from sparelu.train.oneshot import least_squares_refit as least_squares_refit
from sparelu.train.oneshot import sparsegpt as sparsegpt
from sparelu.train.oneshot import wanda as wanda
from sparelu.train.sparse_growth import SparseGrowth as SparseGrowth
from sparelu.train.sparsifier.prunable import LayerCollapseWarning as LayerCollapseWarning
from sparelu.train.sparsifier.sparse_init import scale_to_active as scale_to_active
from sparelu.train.sparsifier.sparsifier import Rule as Rule
from sparelu.train.sparsifier.sparsifier import Sparsifier as Sparsifier
from sparelu.train.sparsifier.update_schedules import ITOP_RIGL as ITOP_RIGL
from sparelu.train.sparsifier.update_schedules import ITOP_SET as ITOP_SET
from sparelu.train.sparsifier.update_schedules import Exploration as Exploration
from sparelu.train.sparsifier.update_schedules import Fixed as Fixed
from sparelu.train.sparsifier.update_schedules import Gradual as Gradual
from sparelu.train.sparsifier.update_schedules import NoUpdateWarning as NoUpdateWarning
from sparelu.train.static import GradualMagnitude as GradualMagnitude
from sparelu.train.static import Magnitude as Magnitude
from sparelu.train.static import Static as Static
