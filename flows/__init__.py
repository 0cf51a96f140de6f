"""When and where the stages run: the Prefect flow, and the plan. What runs, and in which order, is read from DVC."""

import os
import secrets
from pathlib import Path

from acclimate.runtime import make_site_directory, prepare_environment

# Prefect reads its settings, and makes its home but not the directory above, when it is imported: so this stands before
# any import of it. Values that are set stay.
prepare_environment()
Path(os.environ["PREFECT_HOME"]).parent.mkdir(parents=True, exist_ok=True)
os.environ.setdefault("PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "180")  # the stack ends a run that misses three
if "PREFECT_API_URL" not in os.environ:
    # Then Prefect starts a server of its own for this process, on a port of loopback that each user of the machine can reach.
    os.environ.setdefault("PREFECT_API_AUTH_STRING", f"acclimate:{secrets.token_urlsafe(32)}")
    os.environ["PREFECT_SERVER_API_AUTH_STRING"] = os.environ["PREFECT_API_AUTH_STRING"]
make_site_directory()
