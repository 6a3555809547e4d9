"""How can an address be its own permission, for a time?  By a signature that only the account's secret could have made.

Relies on the account's salt, which never leaves the database.  Refuses an address that is late, or that anything of was changed.
"""

import hashlib
import hmac

from models.errors import PermissionDenied

LEAST_S, MOST_S = 60, 7 * 86_400
"""As with AIGateway."""


def signature(salt: bytes, path: str, expires_s: int) -> str:
    """`expires_s` is Unix time in seconds."""
    return hmac.digest(salt, f"link\n{path}\n{expires_s}".encode(), hashlib.sha256).hex()


def check(salt: bytes, path: str, expires_s: int, given: str, now_ms: int) -> None:
    """Raises PermissionDenied."""
    good = hmac.compare_digest(signature(salt, path, expires_s).encode(), given.encode())
    if not good or expires_s * 1000 <= now_ms:
        raise PermissionDenied("this link was changed, or its time is over", param="signature")
