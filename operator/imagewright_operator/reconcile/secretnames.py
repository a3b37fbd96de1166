"""The names of Secrets that a build may use: those that only the engine sees, and those that RUN may read.

No I/O; the operator reads no Secret of a build. Whoever may create ImageBuilds may use the Secrets of the namespace by
them, and a RUN can print what it is given: the settings list which ones.
"""

from __future__ import annotations

from collections.abc import Iterator

from imagewright_operator.api import ImageBuild, Spec
from imagewright_operator.api.podtemplate import PodTemplate
from imagewright_operator.api.podvolumes import Volume
from imagewright_operator.settings import Settings


def problems(imagebuild: ImageBuild, settings: Settings) -> Iterator[str]:
    """The references to Secrets that are not allowed in this namespace, each with the setting."""
    namespace, allowed = imagebuild.metadata.namespace, settings.allowed
    for references, listed, use in (
        (_logins(imagebuild.spec), allowed.login_secrets, "for logins"),
        (_given_to_run(imagebuild.spec), allowed.build_secrets, "for builds"),
    ):
        for field, name in references:
            if not listed.allows(name, namespace):
                yield f'{field}: Secret "{name}" is not allowed {use}: {listed.refusal(namespace)}'


def _given_to_run(spec: Spec) -> Iterator[tuple[str, str]]:
    """What RUN can mount. An ssh key it can only use, but it can sign anything with it."""
    for secret in spec.secrets:
        yield f'spec.secrets "{secret.id}"', secret.secret_key_ref.name
    for key in spec.ssh:
        yield f'spec.ssh "{key.id}"', key.secret_key_ref.name


def _logins(spec: Spec) -> Iterator[tuple[str, str]]:
    if spec.output.push_secret_ref is not None:
        yield "spec.output.pushSecretRef", spec.output.push_secret_ref.name
    if spec.source.secret_ref is not None:
        yield f"spec.source.{next(iter(spec.source.given))}.secretRef", spec.source.secret_ref.name
    for registry in spec.registries:
        if registry.client_certificate_secret_ref is not None:
            where = f'spec.registries "{registry.host}": clientCertificateSecretRef'
            yield where, registry.client_certificate_secret_ref.name
    yield from _of_template(spec.pod_template)


def _of_template(template: PodTemplate) -> Iterator[tuple[str, str]]:
    for reference in template.image_pull_secrets:
        yield "spec.podTemplate.imagePullSecrets", reference.name
    for variable in template.env:
        if variable.value_from is not None and variable.value_from.secret_key_ref is not None:
            yield f'spec.podTemplate.env "{variable.name}"', variable.value_from.secret_key_ref.name
    for volume in template.volumes:
        for name in _names_in(volume):
            yield f'spec.podTemplate.volumes "{volume.name}"', name


def _names_in(volume: Volume) -> Iterator[str]:
    """The Secrets of a volume: plain, projected, and that of a csi driver."""
    if volume.secret is not None:
        yield volume.secret.secret_name or ""
    if volume.csi is not None and volume.csi.node_publish_secret_ref is not None:
        yield volume.csi.node_publish_secret_ref.name
    for source in (volume.projected.sources or ()) if volume.projected is not None else ():
        if source.secret is not None:
            yield source.secret.name or ""
