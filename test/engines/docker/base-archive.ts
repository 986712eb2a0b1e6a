// The root of a small Debian with Python, as an archive that is imported as an image: nothing can be pulled from outside. It takes half a minute.
import { keptFile, quietly } from '../kept.ts';

const suite = 'bookworm';
/** With sshd, for machines that are made of it. */
const packages = ['python3', 'python3-venv', 'ca-certificates', 'openssh-server'];

export const baseArchive = (): string =>
  keptFile('docker-base.tar', [suite, ...packages], (place) =>
    quietly('mmdebstrap', '--quiet', '--variant=minbase', `--include=${packages.join(',')}`, suite, place),
  );
