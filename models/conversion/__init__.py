"""From one network to another without training: ANN to LM-HT, LM-HT to M-HT, and one budget to smaller ones."""

from models.conversion.ann import as_ann, to_spiking
from models.conversion.budgets import derive
from models.conversion.mixing import freeze_mixing

__all__ = ["as_ann", "derive", "freeze_mixing", "to_spiking"]
