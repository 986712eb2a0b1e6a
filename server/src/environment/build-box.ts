// Source distributions on a server that several people use: building one runs what its author wrote, so it is built in a box, in which nothing
// of this machine but its programs is seen (python/src/stellwerk/runner/build_box.py). uv gets a Python that enters it.
import { run } from '../exec/programs.ts';

export interface BuildBox {
  /** Our Python package, which makes the box: a wheel or the folder of its source. */
  pythonPackage: string;
  /** What builds must not see even where it lies among the system's programs: the data folder. */
  hidden: readonly string[];
}

export const boxRefused =
  'This server does not build source distributions: that runs what their authors wrote, and this machine refuses the namespaces that would keep it apart. ' +
  'Name a version that has a wheel, or allow namespaces (as root: sysctl -w user.max_user_namespaces=15000, kernel.unprivileged_userns_clone=1 or ' +
  'kernel.apparmor_restrict_unprivileged_userns=0, whichever the system has; in a container, its security profile must allow unshare and mount).';

/** The Python to build with, made in `folder` for as long as that lasts; undefined where the machine refuses to make boxes. */
export async function boxedPython(
  python: string,
  folder: string,
  cache: string,
  { pythonPackage, hidden }: BuildBox,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const { code, stdout, stderr } = await run({
    command: python,
    args: [
      ...['-m', 'stellwerk.runner.build_box', folder, '--python', python, '--cache', cache],
      ...hidden.flatMap((path) => ['--hide', path]),
    ],
    env: { PYTHONPATH: pythonPackage, PYTHONDONTWRITEBYTECODE: '1' },
    cwd: folder,
    ...(signal && { signal }),
  });
  if (code !== 0) throw new Error(`The box for source distributions could not be made: ${stderr.trim().slice(-2_000)}`);
  return stdout.trim() || undefined;
}
