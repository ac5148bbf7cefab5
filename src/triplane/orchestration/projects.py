"""Projects: folders of conversations, with instructions that hold for each of them."""

from datetime import datetime
from typing import Protocol

import msgspec

from triplane.domain.conversation import Principal


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """`conversations` counts those that aren't deleted."""

    id: str
    name: str
    instructions: str
    created_at: datetime
    updated_at: datetime
    conversations: int = 0


class ProjectStore(Protocol):
    """A project of another tenant or user is `NotFound`."""

    async def create(self, who: Principal, name: str, instructions: str) -> Project: ...

    async def get(self, who: Principal, project_id: str) -> Project: ...

    async def list_page(self, who: Principal, after: str | None, limit: int) -> tuple[list[Project], bool]:
        """Newest first, from behind `after`; and whether there are more."""
        ...

    async def update(
        self, who: Principal, project_id: str, name: str | None, instructions: str | None
    ) -> Project:
        """Change what is given; None leaves it."""
        ...

    async def delete(self, who: Principal, project_id: str) -> None:
        """Remove it; its conversations stay, in no project."""
        ...
