"""What may be claimed of this network?"""

from sparelu.certify.generalise import Generalise
from sparelu.certify.kernel import Kernel
from sparelu.certify.pruned import Pruned
from sparelu.certify.recovered import Recovered
from sparelu.certify.regions import Regions
from sparelu.method import Method

METHODS: tuple[type[Method], ...] = (Regions, Pruned, Generalise, Recovered, Kernel)
