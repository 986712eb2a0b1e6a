// For tests: a small root filesystem around this machine's own Python, as an unpacked image would be. Nothing is downloaded.
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, readdirSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { output } from './programs.ts';

const facts =
  'import os, sys, sysconfig; print(os.path.realpath(sys.executable)); print(sysconfig.get_paths()["stdlib"])';
const leftOut = new Set(['site-packages', 'dist-packages', 'test', 'idlelib', 'tkinter', 'ensurepip', 'lib2to3']);

/** The folder; `usr/bin/python3` in it runs. The caller removes it. */
export async function makeTestRoot(): Promise<string> {
  const root = mkdtempSync(join(tmpdir(), 'stellwerk-root-'));
  const [python, library] = (await output({ command: 'python3', args: ['-I', '-c', facts] })).trim().split('\n') as [
    string,
    string,
  ];
  const copy = (path: string) => {
    mkdirSync(join(root, dirname(path)), { recursive: true });
    copyFileSync(path, join(root, path));
  };
  copy(python);
  cpSync(library, join(root, library), {
    recursive: true,
    filter: (path) => !leftOut.has(basename(path)) && !basename(path).startsWith('config-'),
  });
  const modules = join(library, 'lib-dynload');
  const needed = await output({
    command: 'ldd',
    args: [python, ...readdirSync(modules).map((name) => join(modules, name))],
  });
  const libraries = new Set([...needed.matchAll(/(?:=> |^\s+)(\/\S+) \(0x/gm)].map(([, path]) => path!));
  for (const path of libraries) copy(path);
  if (python !== '/usr/bin/python3') {
    mkdirSync(join(root, 'usr/bin'), { recursive: true });
    symlinkSync(python, join(root, 'usr/bin/python3'));
  }
  return root;
}
