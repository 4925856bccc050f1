"""Import of checkpoints that LM-HT's authors' code wrote.

`checkpoint` reads the file without running anything in it, `recognise` tells which network it holds, a `layout` (one
file per family of architectures) says where the authors keep what our network holds, `slots` says what must be there,
and `importer` brings them together.
"""

from models.importing.checkpoint import CheckpointError, read
from models.importing.importer import Imported, import_checkpoint
from models.importing.recognise import LAYOUTS, Architecture

__all__ = ["LAYOUTS", "Architecture", "CheckpointError", "Imported", "import_checkpoint", "read"]
