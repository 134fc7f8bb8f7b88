"""Give the keys of a pair's CAs another passphrase, or the same one with today's encryption.

    .venv/bin/python -m kea_ha.passphrase pki/PAIR

The passphrase that they are under is in KEA_HA_CA_PASSPHRASE (unset: they are in clear), the new
one in KEA_HA_NEW_CA_PASSPHRASE. No host is contacted. Interrupted, it is run again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from kea_ha.pki import ca_store
from kea_ha.pki.certificates import PkiError


def main(arguments: list[str]) -> int:
    """Do it; the exit status."""
    if len(arguments) != 1:
        print("usage: python -m kea_ha.passphrase pki/PAIR", file=sys.stderr)
        return 2
    directory = Path(arguments[0])
    new = os.environ.get(ca_store.NEW_PASSPHRASE_VARIABLE)
    try:
        if not ca_store.Store.exists(directory):
            raise PkiError(f"There are no CAs in {directory}.", "Name a pki/PAIR directory.")
        if new is None:
            raise PkiError(
                f"{ca_store.NEW_PASSPHRASE_VARIABLE} is not set.", "Set it to the new passphrase."
            )
        store = ca_store.Store(
            directory, directory.name, os.environ.get(ca_store.PASSPHRASE_VARIABLE)
        )
        store.change_passphrase(new)
    except PkiError as error:
        print(f"{error.what} {error.remedy}", file=sys.stderr)
        return 1
    print(
        f"The keys of the CAs in {directory} are under the new passphrase: from now on it is the "
        f"one to set {ca_store.PASSPHRASE_VARIABLE} to. "
        f"Copies of {directory} are still under the old."
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
