"""The engine's own registry client, for tests that pull and push small images.

Talks to the registry that it is given.
"""

from __future__ import annotations

from servers.images import MemoryImage

from imagewright.contract.request import RegistrySettings
from imagewright.digest import Digest
from imagewright.http.retry import RetryPolicy
from imagewright.oci.descriptor import Descriptor
from imagewright.oci.platform import Platform
from imagewright.reference import Reference
from imagewright.registry.auth import Login
from imagewright.registry.dockerconfig import DockerConfig
from imagewright.registry.endpoints import RegistryOptions
from imagewright.registry.keychain import Keychain
from imagewright.registry.pull import Puller, RemoteImage
from imagewright.registry.push import Pusher, PushImage
from imagewright.registry.transport import Transport
from imagewright.registry.upload import Progress

AMD64 = Platform.parse("linux/amd64")


class Client:
    """``puller`` and ``pusher`` over one ``transport``. Retries do not wait, unless ``retry`` says so."""

    def __init__(
        self,
        *settings: RegistrySettings,
        logins: dict[str, Login] | None = None,
        keychain: Keychain | None = None,
        retry: RetryPolicy = RetryPolicy(4, 0),  # noqa: B008 -- frozen
        more_pulls: int = 0,
        more_pushes: int = 0,
    ) -> None:
        options = RegistryOptions(settings, retry=retry, pull_retries=more_pulls, push_retries=more_pushes)
        self.transport = Transport(options, keychain or Keychain(DockerConfig(logins or {})))
        self.puller, self.pusher = Puller(self.transport), Pusher(self.transport)

    def resolve(self, name: str) -> RemoteImage:
        """The image for linux/amd64."""
        return self.puller.resolve(Reference.parse(name), AMD64)

    def pull(self, name: str) -> bytes:
        """The content of an image's first layer."""
        image = self.resolve(name)
        return self.layer(image, image.manifest.layers[0])

    def layer(self, image: RemoteImage, layer: Descriptor) -> bytes:
        """The content of one layer, in small pieces."""
        with self.puller.open_blob(image, layer) as stream:
            return b"".join(iter(lambda: stream.read(10_000), b""))

    def push(
        self,
        image: MemoryImage,
        *names: str,
        mount: dict[Digest, Reference] | None = None,
        progress: Progress = lambda *_: None,
    ) -> None:
        """Push an image to every name."""
        references = [Reference.parse(name) for name in names]
        self.pusher.push(PushImage(image.manifest, image.config, mount or {}), references, image, progress)
