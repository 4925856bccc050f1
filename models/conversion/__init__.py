"""From one network to another without training: ANN to LM-HT, LM-HT to M-HT, one budget to smaller ones, the full
T-GIM to the factored one, and multi-level spikes to single-threshold ones.
"""

from models.conversion.ann import as_ann, to_spiking
from models.conversion.budgets import derive
from models.conversion.factored import to_factored
from models.conversion.mixing import freeze_mixing
from models.conversion.norms import Choice, choose_norms, classes_of
from models.conversion.reparameterise import reparameterise, reparameterised

__all__ = [
    "Choice",
    "as_ann",
    "choose_norms",
    "classes_of",
    "derive",
    "freeze_mixing",
    "reparameterise",
    "reparameterised",
    "to_factored",
    "to_spiking",
]
