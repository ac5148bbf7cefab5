"""Names for a vendor to tell users and conversations apart by, from which nobody can be told."""

from hashlib import sha256


def opaque_name(tenant: str, name: str) -> str:
    """The same for the same name of the same tenant; 32 hex digits."""
    return sha256(f"{len(tenant)}:{tenant}{name}".encode()).hexdigest()[:32]
