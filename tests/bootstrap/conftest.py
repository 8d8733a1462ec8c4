"""libp2p can be imported without fastecdsa only once `shoal.bootstrap` was."""

import shoal.bootstrap  # noqa: F401
