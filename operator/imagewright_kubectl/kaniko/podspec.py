"""The fields of a manifest that the conversion reads, as pydantic models, whose errors name the field.

No I/O. Fields that aren't listed may hold anything; null means not given, as for the API server.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel

from imagewright.errors import UsageError


class _Part(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="ignore", strict=True)


class _Key(_Part):
    name: str | None = None
    key: str | None = None


class _KeyToPath(_Part):
    key: str | None = None
    path: str | None = None


class _Secret(_Part):
    name: str | None = None
    secret_name: str | None = None
    items: list[_KeyToPath] | None = None


class _ConfigMap(_Part):
    name: str | None = None
    items: list[_KeyToPath] | None = None


class _Projection(_Part):
    secret: _Secret | None = None
    config_map: _ConfigMap | None = None


class _Projected(_Part):
    sources: list[_Projection] | None = None


class _Claim(_Part):
    claim_name: str | None = None


class _Volume(_Part):
    name: str | None = None
    secret: _Secret | None = None
    config_map: _ConfigMap | None = None
    projected: _Projected | None = None
    persistent_volume_claim: _Claim | None = None


class _EnvSource(_Part):
    secret_key_ref: _Key | None = None
    config_map_key_ref: _Key | None = None


class _EnvVar(_Part):
    name: str | None = None
    value: str | None = None
    value_from: _EnvSource | None = None


class _EnvFrom(_Part):
    secret_ref: _Key | None = None
    config_map_ref: _Key | None = None


class _VolumeMount(_Part):
    name: str | None = None
    mount_path: str | None = None
    sub_path: str | None = None


class _Resources(_Part):
    requests: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


class _Capabilities(_Part):
    add: list[Any] | None = None
    drop: list[Any] | None = None


class _SecurityContext(_Part):
    capabilities: _Capabilities | None = None


class Container(_Part):
    name: str | None = None
    command: list[str] | None = None
    args: list[str] | None = None
    working_dir: str | None = None
    env: list[_EnvVar] | None = None
    env_from: list[_EnvFrom] | None = None
    volume_mounts: list[_VolumeMount] | None = None
    resources: _Resources | None = None
    security_context: _SecurityContext | None = None


class Pod(_Part):
    service_account_name: str | None = None
    tolerations: list[dict[str, Any]] | None = None
    active_deadline_seconds: int | None = None


class Volumes(_Part):
    volumes: list[_Volume] | None = None


class Job(_Part):
    active_deadline_seconds: int | None = None
    backoff_limit: int | None = None
    ttl_seconds_after_finished: int | None = None


class Metadata(_Part):
    name: str | None = None
    namespace: str | None = None


def validate(model: type[_Part], node: Any, path: str) -> None:
    """Check a mapping of the manifest; ``path`` is what messages call it.

    Raises:
        UsageError: the first field of a wrong type.
    """
    try:
        model.model_validate(node)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
        field = (path + "".join(parts)).lstrip(".")
        # pydantic's own message for a model names its class
        problem = (
            "input should be a mapping" if first["type"] == "model_type" else first["msg"].replace("Input", "input", 1)
        )
        raise UsageError(
            f"invalid manifest: {field}: {problem}", hint="Check it with `kubectl apply --dry-run=server -f FILE`."
        ) from None
