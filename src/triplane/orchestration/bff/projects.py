"""`/v1/projects`."""

from typing import Annotated, Literal

import msgspec
from litestar import HttpMethod, delete, get, post, route
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from triplane.domain.conversation import Instructions
from triplane.domain.errors import InvalidRequest, NotFound
from triplane.domain.ids import is_id
from triplane.orchestration.announcing import Announcer, announce_project
from triplane.orchestration.bff.errors import documented
from triplane.orchestration.bff.pages import Deleted, Page, page_of
from triplane.orchestration.bff.request import StrictRequest
from triplane.orchestration.projects import Project, ProjectStore

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class NewProject(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name
    instructions: Instructions = ""


class ProjectChange(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    name: Name | None = None
    instructions: Instructions | None = None


class ProjectObject(msgspec.Struct, frozen=True, kw_only=True):
    """Times in Unix seconds; `conversations` is their number."""

    id: str
    object: Literal["project"] = "project"
    name: str
    instructions: str
    created_at: int
    updated_at: int
    conversations: int


def project_handlers(projects: ProjectStore, announcer: Announcer) -> list[HTTPRouteHandler]:
    return [*_reading(projects), *_changing(projects, announcer)]


def _reading(projects: ProjectStore) -> list[HTTPRouteHandler]:
    @get(
        "/v1/projects",
        operation_id="listProjects",
        tags=["projects"],
        summary="Your projects, newest first",
        responses=documented(400, 401, 503),
    )
    async def list_projects(
        request: StrictRequest,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        after: FromQuery[str | None] = None,
    ) -> Page[ProjectObject]:
        if after is not None and not is_id("proj", after):
            raise InvalidRequest("after: this is not the id of a project.", param="after")
        found, has_more = await projects.list_page(request.principal, after, limit)
        return page_of([_present(each) for each in found], has_more=has_more)

    @get(
        "/v1/projects/{project_id:str}",
        operation_id="retrieveProject",
        tags=["projects"],
        summary="One project",
        responses=documented(401, 404, 503),
    )
    async def get_project(request: StrictRequest, project_id: FromPath[str]) -> ProjectObject:
        return _present(await projects.get(request.principal, _known(project_id)))

    return [list_projects, get_project]


def _changing(projects: ProjectStore, announcer: Announcer) -> list[HTTPRouteHandler]:
    @post(
        "/v1/projects",
        operation_id="createProject",
        tags=["projects"],
        summary="Make a project",
        status_code=200,
        responses=documented(400, 401, 403, 413, 415, 503),
    )
    async def create_project(request: StrictRequest, data: JSONBody[NewProject]) -> ProjectObject:
        made = await projects.create(request.principal, _name(data.name), data.instructions)
        announce_project(announcer, request.principal, "project.created", made.id)
        return _present(made)

    @route(
        "/v1/projects/{project_id:str}",
        http_method=[HttpMethod.POST, HttpMethod.PATCH],
        tags=["projects"],
        summary="Rename a project, change its instructions",
        status_code=200,
        responses=documented(400, 401, 403, 404, 413, 415, 503),
    )
    async def update_project(
        request: StrictRequest, project_id: FromPath[str], data: JSONBody[ProjectChange]
    ) -> ProjectObject:
        name = None if data.name is None else _name(data.name)
        changed = await projects.update(request.principal, _known(project_id), name, data.instructions)
        announce_project(announcer, request.principal, "project.updated", changed.id)
        return _present(changed)

    @delete(
        "/v1/projects/{project_id:str}",
        operation_id="deleteProject",
        tags=["projects"],
        summary="Delete a project; its conversations stay",
        status_code=200,
        responses=documented(401, 403, 404, 503),
    )
    async def delete_project(request: StrictRequest, project_id: FromPath[str]) -> Deleted:
        await projects.delete(request.principal, _known(project_id))
        announce_project(announcer, request.principal, "project.deleted", project_id)
        return Deleted(id=project_id, object="project.deleted")

    return [create_project, update_project, delete_project]


def _known(project_id: str) -> str:
    """What can't be an id can't exist: the store isn't asked."""
    if not is_id("proj", project_id):
        raise NotFound("There is no such project.")
    return project_id


def _name(name: str) -> str:
    if not name.strip():
        raise InvalidRequest("name: write at least one letter.", param="name")
    return name.strip()


def _present(project: Project) -> ProjectObject:
    return ProjectObject(
        id=project.id,
        name=project.name,
        instructions=project.instructions,
        created_at=int(project.created_at.timestamp()),
        updated_at=int(project.updated_at.timestamp()),
        conversations=project.conversations,
    )
