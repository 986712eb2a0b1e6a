"""micromamba's command line as far as Stellwerk uses it, on rattler, the solver and installer of conda packages that PyPI has.

    micromamba create --yes --prefix FOLDER --override-channels --channel CHANNEL … SPEC …

A spec is `name=version`, or the address of one package with its checksum (`file:///…/name-1.0-0.tar.bz2#md5`); if all are addresses, they are
installed as they are, without solving.
"""

import argparse
import asyncio
import os
import re
import sys

import rattler

ADDRESS = re.compile(r"^(?P<channel>\w+://.+)/(?P<subdir>[\w-]+)/(?P<name>[^/#]+)-(?P<version>[^-/#]+)-(?P<build>[^-/#]+?)\.(tar\.bz2|conda)#(?P<sum>[0-9a-f]+)$")


async def create(prefix, channels, specs):
    addresses = [ADDRESS.match(spec) for spec in specs]
    records = await named(addresses) if all(addresses) else await rattler.solve(channels, specs, virtual_packages=rattler.VirtualPackage.detect())
    for record in records:
        print("  + %s %s %s" % (record.name.normalized, record.version, record.build))
    cache = os.environ.get("CONDA_PKGS_DIRS") or os.path.expanduser("~/.cache/conda-packages")
    await rattler.install(records, prefix, cache_dir=cache, execute_link_scripts=True, show_progress=False)


async def named(addresses):
    records = []
    for match in addresses:
        exact = "%(name)s ==%(version)s %(build)s" % match.groupdict()
        found = await rattler.Gateway().query([match["channel"]], [match["subdir"]], [exact], recursive=False)
        sums = [(one, one.md5.hex() if one.md5 else "", one.sha256.hex() if one.sha256 else "") for group in found for one in group]
        right = [one for one, *known in sums if match["sum"] in known]
        if not right:
            raise SystemExit("error    libmamba Checksum of %s is not %s" % (exact, match["sum"]))
        records += right[:1]
    return records


def main():
    parser = argparse.ArgumentParser(prog="micromamba")
    command = parser.add_subparsers(dest="command", required=True).add_parser("create")
    command.add_argument("--yes", action="store_true", required=True)
    command.add_argument("--prefix", required=True)
    command.add_argument("--override-channels", action="store_true")
    command.add_argument("--channel", action="append", default=[])
    command.add_argument("specs", nargs="+")
    given = parser.parse_args()
    try:
        asyncio.run(create(given.prefix, given.channel, given.specs))
    except Exception as error:
        print("error    libmamba Could not solve for environment specs\n%s" % error, file=sys.stderr, flush=True)
        ended(1)
    ended(0)


def ended(code):
    """At once: rattler's threads do not bear Python's own end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
