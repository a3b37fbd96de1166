"""What a build that replaces ``/`` does before: everything for which it starts programs or reads configuration.

Once an image is unpacked there, a program's name, its loader, the libraries that /etc/ld.so.preload and
/etc/nsswitch.conf name, and the configuration of git, ssh, OpenSSL and the clouds' SDKs are the image's, which would be
given the logins. So repositories are checked out, agents started and logins found before, and no program is started
afterwards.

Talks to git servers, registries and clouds through the given parts.
"""

from __future__ import annotations

from collections.abc import Iterable

from imagewright.engine.registries import Registries
from imagewright.engine.source.heldfiles import Mounted, hold_certificates, hold_modules
from imagewright.engine.source.remotes import Remotes
from imagewright.errors import ImagewrightError
from imagewright.plan.model import BuildPlan
from imagewright.plan.remote import GitRemote
from imagewright.plan.steps import CopyStep
from imagewright.reference import Reference


def fetch_all(plan: BuildPlan, remotes: Remotes) -> None:
    """Do everything for which a program is started: check out the repositories of ADD, start the ssh agents.

    Raises:
        ImagewrightError: with the location of the ADD that needs the repository.
    """
    for stage in plan.stages:
        for step in stage.steps:
            if isinstance(step, CopyStep):
                try:
                    for source in step.sources:
                        if isinstance(source, GitRemote):
                            remotes.rewording(step.text.substitutions.as_written).fetch_ahead(source)
                except ImagewrightError as error:
                    error.location, error.instruction = step.location, step.title
                    raise
    remotes.agents.start()


def hold(registries: Registries, pulled: Iterable[Reference], pushed: Iterable[Reference]) -> None:
    """Find the logins for these images, and keep what connections and modules are made of from being replaced."""
    registries.transport.hold(pulled, pushed, Mounted())
    hold_certificates()
    hold_modules()
