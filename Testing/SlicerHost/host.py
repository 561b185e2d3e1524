"""The scene host of the bridge, under the name tests know. A stand-in: no Slicer application is tested here."""

from AmbiguousSegBridge.scene.host import make_host

__all__ = ["make_host"]
