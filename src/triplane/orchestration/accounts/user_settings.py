"""What a user has set for themselves."""

from typing import Annotated, Literal

import msgspec

Language = Literal["en", "de", "es", "fr", "ja", "zh", "ar"]
Theme = Literal["light", "dark", "system"]
SendWith = Literal["enter", "mod_enter"]
Instructions = Annotated[str, msgspec.Meta(max_length=4000)]
ModelName = Annotated[str, msgspec.Meta(min_length=1, max_length=120)]


class UserSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`instructions` are told to the model in every conversation. None: the browser's language, the first
    model."""

    object: Literal["settings"] = "settings"
    language: Language | None = None
    theme: Theme = "system"
    instructions: Instructions = ""
    default_model: ModelName | None = None
    send_with: SendWith = "enter"
    notifications: bool = False


class SettingsChange(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is left out stays as it is."""

    language: Language | msgspec.UnsetType | None = msgspec.UNSET
    theme: Theme | msgspec.UnsetType = msgspec.UNSET
    instructions: Instructions | msgspec.UnsetType = msgspec.UNSET
    default_model: ModelName | msgspec.UnsetType | None = msgspec.UNSET
    send_with: SendWith | msgspec.UnsetType = msgspec.UNSET
    notifications: bool | msgspec.UnsetType = msgspec.UNSET
