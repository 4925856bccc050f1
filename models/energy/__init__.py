"""What a pass costs in operations, and what those would cost in energy on hypothetical hardware.

Counts first, joules second: `operations` counts a pass, `profiles` prices it, `account` puts the two together, `memory`
adds accesses for the profile that has them, `rival` estimates the quantised ANN beside it. None of this is the
server's own consumption. Needs the manifest and the served counts only, and neither torch nor a web server.
"""

from models.energy.account import Account, Energy, account, estimate, total
from models.energy.operations import Operations
from models.energy.profiles import DEFAULT_PROFILE, PROFILES, Profile
from models.energy.rival import Rival, rival

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILES",
    "Account",
    "Energy",
    "Operations",
    "Profile",
    "Rival",
    "account",
    "estimate",
    "rival",
    "total",
]
