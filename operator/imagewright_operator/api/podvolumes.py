"""``spec.podTemplate.volumes``: a volume of the executor Pod, and where it is mounted.

No I/O. Each kind has Kubernetes' own fields. The API server drops a field that isn't here, so that a volume of another
kind has none; what an object has from the time of an older definition, ``validation`` refuses by name.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from imagewright_operator.api.base import Json, LocalReference, PodModel, Quantity, rule, rules
from imagewright_operator.api.volumerules import RULE

Name = Annotated[str, Field(max_length=253)]
Mode = Annotated[int, Field(ge=0, le=0o777)]


class Item(PodModel):
    """A key and the file that it becomes."""

    key: Name = Field(description="Key in the object's data.")
    path: Annotated[str, Field(max_length=1024)] = Field(description="Path of the file in the volume.")
    mode: Mode | None = Field(default=None, description="Permission bits of the file.")


Items = Annotated[list[Item], Field(max_length=64)]


class EmptyDirVolume(PodModel):
    """An empty folder that lives as long as the Pod."""

    medium: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Medium: Memory, or the node's disk by default."
    )
    size_limit: Quantity | None = Field(default=None, description="Maximum size, such as 1Gi.")


class NamedVolume(PodModel):
    """A ConfigMap or a Secret of the same namespace."""

    items: Items | None = Field(default=None, description="Keys to mount, and their paths; every key by default.")
    optional: bool | None = Field(default=None, description="Whether the Pod starts without it.")


class ConfigMapVolume(NamedVolume):
    """Files from a ConfigMap."""

    name: Name | None = Field(default=None, description="Name of a ConfigMap in the same namespace.")
    default_mode: Mode | None = Field(default=None, description="Permission bits of the files.")


class SecretVolume(NamedVolume):
    """Files from a Secret."""

    secret_name: Name | None = Field(default=None, description="Name of a Secret in the same namespace.")
    default_mode: Mode | None = Field(default=None, description="Permission bits of the files.")


class ProjectedObject(NamedVolume):
    """A ConfigMap or Secret in a projected volume."""

    name: Name | None = Field(default=None, description="Name of an object in the same namespace.")


class FieldRef(PodModel):
    """A field of the Pod."""

    api_version: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="Version of the field.")
    field_path: Annotated[str, Field(max_length=512)] = Field(description="Path of the field, such as metadata.labels.")


class ResourceFieldRef(PodModel):
    """A resource of a container."""

    container_name: Annotated[str, Field(max_length=63)] | None = Field(
        default=None, description="Name of the container."
    )
    divisor: Quantity | None = Field(default=None, description="Unit of the value; 1 by default.")
    resource: Annotated[str, Field(max_length=317)] = Field(description="Resource, such as limits.memory.")


class DownwardItem(PodModel):
    """Fact about the Pod, and the file that it becomes."""

    path: Annotated[str, Field(max_length=1024)] = Field(description="Path of the file in the volume.")
    field_ref: FieldRef | None = Field(default=None, description="Field of the Pod.")
    resource_field_ref: ResourceFieldRef | None = Field(default=None, description="Resource of a container.")
    mode: Mode | None = Field(default=None, description="Permission bits of the file.")


class DownwardSource(PodModel):
    """Facts about the Pod."""

    items: Annotated[list[DownwardItem], Field(max_length=64)] | None = Field(default=None, description="Files.")


class ProjectedSource(PodModel):
    """Source of a projected volume."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "[has(self.configMap), has(self.secret), has(self.downwardAPI)].filter(x, x).size() == 1",
                "must be exactly one of configMap, secret and downwardAPI",
            )
        )
    )

    config_map: ProjectedObject | None = Field(default=None, description="ConfigMap in the same namespace.")
    secret: ProjectedObject | None = Field(default=None, description="Secret in the same namespace.")
    downward_api: DownwardSource | None = Field(default=None, alias="downwardAPI", description="Facts about the Pod.")


class ProjectedVolume(PodModel):
    """Files from several sources."""

    sources: Annotated[list[ProjectedSource], Field(max_length=32)] | None = Field(
        default=None, description="Sources of the files."
    )
    default_mode: Mode | None = Field(default=None, description="Permission bits of the files.")


class ClaimVolume(PodModel):
    """A PersistentVolumeClaim of the same namespace."""

    claim_name: Name | None = Field(default=None, description="Name of the PersistentVolumeClaim.")
    read_only: bool | None = Field(default=None, description="Whether the volume is attached read-only.")


class CsiVolume(PodModel):
    """A volume that a CSI driver makes for the Pod."""

    driver: Name | None = Field(default=None, description="Name of the driver.")
    fs_type: Annotated[str, Field(max_length=64)] | None = Field(default=None, description="Type of the file system.")
    node_publish_secret_ref: LocalReference | None = Field(default=None, description="Secret for the driver.")
    read_only: bool | None = Field(default=None, description="Whether the volume is read-only.")
    volume_attributes: Annotated[dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=64)] | None = (
        Field(default=None, description="Attributes, whose meaning the driver defines.")
    )


_KINDS = ("emptyDir", "configMap", "secret", "projected", "persistentVolumeClaim", "csi")


class Volume(PodModel):
    """A volume of a Pod (emptyDir, configMap, secret, projected, persistentVolumeClaim) and where it is mounted."""

    KINDS: ClassVar[tuple[str, ...]] = _KINDS

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                f"[{', '.join(f'has(self.{kind})' for kind in _KINDS)}].filter(x, x).size() == 1",
                f"must have exactly one of {', '.join(_KINDS[:-1])}, and csi where the installation allows it",
            )
        )
    )

    name: Annotated[
        str,
        Field(
            max_length=63,
            description="Name of the volume.",
            json_schema_extra=rules(
                rule("!self.startsWith('imagewright')", "is reserved for the operator: write a name of your own"),
                rule(
                    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')", "is not a volume's name: write a-z, 0-9 and '-'"
                ),
            ),
        ),
    ]
    mount_path: Annotated[
        str,
        Field(
            max_length=512,
            description="Path at which the volume is mounted in the engine's container.",
            json_schema_extra=rules(
                rule(RULE, "is reserved for the executor: write a path such as /data or /mnt/NAME"),
                rule("self.startsWith('/') && self.size() > 1", "must be an absolute path, such as /cache"),
            ),
        ),
    ]
    read_only: bool = Field(default=True, description="Whether the volume is mounted read-only.")
    empty_dir: EmptyDirVolume | None = Field(default=None, description="Empty folder, as in a Pod.")
    config_map: ConfigMapVolume | None = Field(default=None, description="ConfigMap, as in a Pod.")
    secret: SecretVolume | None = Field(default=None, description="Secret, as in a Pod.")
    projected: ProjectedVolume | None = Field(
        default=None, description="ConfigMaps, Secrets and the downward API in one volume, as in a Pod."
    )
    persistent_volume_claim: ClaimVolume | None = Field(default=None, description="PersistentVolumeClaim, as in a Pod.")
    csi: CsiVolume | None = Field(
        default=None, description="Volume of a CSI driver, as in a Pod, where the installation allows it."
    )

    @property
    def source(self) -> Json:
        """The volume without its name and mount, as in a Pod: ``{"emptyDir": {…}}``."""
        whole: dict[str, Any] = self.as_json()
        return {name: value for name, value in whole.items() if name not in ("name", "mountPath", "readOnly")}
