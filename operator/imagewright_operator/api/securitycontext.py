"""``spec.podTemplate.securityContext``: that of a container, limited to what reduces its privileges.

No I/O. Fields that would give privileges exist so that they are refused by name, here by rules and by ``allowlist``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from imagewright_operator.api.base import PodModel, rule, rules

_Id = Annotated[int, Field(ge=0, le=2_147_483_647)]
_Text = Annotated[str, Field(max_length=253)]
_NOT_ALLOWED = "Not allowed: it may give the Pod more privileges than the installation does."


class Capabilities(PodModel):
    """Capabilities of the container's processes."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!has(self.add) || self.add.size() == 0", "must not have add: capabilities can only be dropped")
        )
    )

    drop: Annotated[list[_Text], Field(max_length=64)] | None = Field(
        default=None, description="Capabilities to drop, or ALL."
    )
    add: Annotated[list[_Text], Field(max_length=64)] | None = Field(
        default=None, description="Not allowed: capabilities can only be dropped."
    )


class ConfinementProfile(PodModel):
    """A profile of the kernel's, by its type."""

    type: _Text = Field(description="RuntimeDefault, Localhost or Unconfined.")
    localhost_profile: _Text | None = Field(default=None, description="Name of a profile on the node, for Localhost.")


class SeLinuxOptions(PodModel):
    """SELinux label."""

    level: _Text | None = Field(default=None, description="SELinux level.")
    role: _Text | None = Field(default=None, description="SELinux role.")
    type: _Text | None = Field(default=None, description="SELinux type.")
    user: _Text | None = Field(default=None, description="SELinux user.")


class SecurityContext(PodModel):
    """Security context of a container, without what gives privileges."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(!has(self.privileged) || !self.privileged) && !has(self.procMount) && !has(self.seLinuxOptions)",
                "must not have privileged, procMount or seLinuxOptions: a build cannot be given privileges",
            ),
            rule(
                "!has(self.appArmorProfile) || self.appArmorProfile.type in ['RuntimeDefault', 'Localhost']",
                "must have an appArmorProfile of type RuntimeDefault or Localhost",
            ),
        )
    )

    allow_privilege_escalation: bool | None = Field(
        default=None, description="Whether a process may gain more privileges than its parent."
    )
    app_armor_profile: ConfinementProfile | None = Field(default=None, description="AppArmor profile.")
    capabilities: Capabilities | None = Field(default=None, description="Capabilities to drop.")
    privileged: bool | None = Field(default=None, description="Not allowed, other than false.")
    proc_mount: _Text | None = Field(default=None, description=_NOT_ALLOWED)
    read_only_root_filesystem: bool | None = Field(default=None, description="Whether the root is read-only.")
    run_as_group: _Id | None = Field(default=None, description="ID of the group.")
    run_as_non_root: bool | None = Field(default=None, description="Whether to refuse an image that runs as root.")
    run_as_user: _Id | None = Field(default=None, description="ID of the user.")
    se_linux_options: SeLinuxOptions | None = Field(default=None, description=_NOT_ALLOWED)
    seccomp_profile: ConfinementProfile | None = Field(default=None, description="Seccomp profile.")
