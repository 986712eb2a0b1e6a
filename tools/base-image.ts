// Makes the base image of Debian's packages and writes it as an OCI layout tar, for machines that cannot make one:
//   node tools/launch.mjs tools/base-image.ts --output base.tar [--name python-base:3.11] [--cache <folder>]
// Needs neither root nor a container engine; the same packages make the same file.
import { createWriteStream } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
import { networkAccess } from '../server/src/environment/environments.ts';
import { debianBase, debianOci } from '../server/src/image/kinds/docker/debian-base.ts';

const { values } = parseArgs({
  options: {
    output: { type: 'string' },
    name: { type: 'string' },
    cache: { type: 'string', default: join(homedir(), '.cache', 'stellwerk') },
  },
});

if (values.output === undefined) {
  console.error('Say where the image goes: --output base.tar');
  process.exitCode = 2;
} else {
  try {
    const set = Object.entries(process.env).filter((entry): entry is [string, string] => entry[1] !== undefined);
    const network = networkAccess({}, Object.fromEntries(set));
    const base = await debianBase({ cacheDir: values.cache, network, log: (line) => console.error(line) });
    const name = values.name ?? `python-base:${base.pythonMinor}`;
    const archive = await debianOci(values.cache).export(base.digest, { format: 'oci', name });
    await pipeline(archive, createWriteStream(values.output));
    console.log(
      `${values.output}: ${name} (${base.digest}), Python ${base.pythonMinor} of ${base.packages.length} Debian packages.`,
    );
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}
