"""Why images were run at the budget that they got: the words, for the scheduler, for answers and for clients.

Imports nothing, so that a client need not import what serves.
"""

from __future__ import annotations

from typing import Literal, get_args

# Why a batch got its budget: it was asked for; the largest was free to take; a deadline left no time for a larger one;
# others that wait did not.
BatchReason = Literal["requested", "largest", "deadline", "load"]
BATCH_REASONS: tuple[BatchReason, ...] = get_args(BatchReason)
# Why a pass was run at its budget: as the scheduler says, or the smallest first, or the largest for what was uncertain.
Reason = Literal[BatchReason, "cascade", "uncertain"]
REASONS: tuple[Reason, ...] = get_args(Reason)
