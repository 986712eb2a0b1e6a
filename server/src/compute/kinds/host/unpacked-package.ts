// Our Python package as runners start from it: unpacked and compiled, once for each version. From the wheel itself, Python would unpack and
// compile every module again each time that a runner starts, which takes several times as long as all else that it does.
import { existsSync } from 'node:fs';
import { lstat, mkdir, rename, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { TargetError } from '@stellwerk/contract/errors.ts';
import { output } from '../../../exec/programs.ts';

const program = `
import compileall, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    wheel.extractall(sys.argv[2])
compileall.compile_dir(sys.argv[2], quiet=2)
`;

/** A folder in each that is touched whenever it is used, so that the versions of before are seen to be of no use any more. */
export const usedMarker = 'stellwerk';

/** False if it is not there. */
async function isUsed(unpacked: string): Promise<boolean> {
  const now = new Date();
  return utimes(join(unpacked, usedMarker), now, now).then(
    () => true,
    () => false,
  );
}

/** The folder of the package, made below `folder` if it is not there; the package itself if it is a folder already. */
export async function unpackedPackage(pythonPackage: string, folder: string): Promise<string> {
  const found = await lstat(pythonPackage);
  if (found.isDirectory()) return pythonPackage;
  const unpacked = join(folder, `${found.size}-${Math.trunc(found.mtimeMs)}`);
  if (await isUsed(unpacked)) return unpacked;
  const making = `${unpacked}.${crypto.randomUUID()}`;
  try {
    await mkdir(making, { recursive: true, mode: 0o700 });
    await output({ command: 'python3', args: ['-I', '-S', '-c', program, pythonPackage, making] });
    await rename(making, unpacked);
  } catch (error) {
    await rm(making, { recursive: true, force: true });
    if (existsSync(unpacked)) return unpacked; // another job was quicker
    throw new TargetError('later', `The runner could not be unpacked: ${(error as Error).message}`);
  }
  return unpacked;
}
