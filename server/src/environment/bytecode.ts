// Bytecode for modules of an image, as if it had been compiled at their final place. Its file names no time and its bytes do not
// depend on the day, the folder or chance: unchecked hashes, a fixed hash seed, and fixed groups of files, each in a process of
// its own (what a process compiled before leaves traces in what it writes next).
import { plainEnvironment, run } from '../exec/programs.ts';
import type { Watch } from './once.ts';
import type { Python } from './pythons.ts';

export interface Module {
  /** The module's file. */
  source: string;
  /** Where the bytecode is written. */
  target: string;
  /** What tracebacks will call the module's file. */
  finalPath: string;
}

const filesPerProcess = 300;
const processes = 2;

/** Modules that are not valid for this Python stay without bytecode, as with pip. */
const compiler = `
import json, py_compile, sys, warnings
warnings.simplefilter("ignore")
mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
for line in sys.stdin:
    source, target, final = json.loads(line)
    try:
        py_compile.compile(source, cfile=target, dfile=final, doraise=True, optimize=0, invalidation_mode=mode)
    except (py_compile.PyCompileError, ValueError, RecursionError, MemoryError):
        pass
`;

export async function compileModules(
  modules: readonly Module[],
  python: Python,
  watch: Required<Watch>,
): Promise<void> {
  const groups: Module[][] = [];
  for (let at = 0; at < modules.length; at += filesPerProcess) groups.push(modules.slice(at, at + filesPerProcess));
  const next = groups.values();
  const work = async () => {
    for (const group of next) await compileGroup(group, python, watch.signal);
  };
  await Promise.all(Array.from({ length: processes }, work));
}

async function compileGroup(group: readonly Module[], python: Python, signal: AbortSignal): Promise<void> {
  const input = group
    .map(({ source, target, finalPath }) => `${JSON.stringify([source, target, finalPath])}\n`)
    .join('');
  const env = plainEnvironment({ PYTHONHASHSEED: '0', PYTHONDONTWRITEBYTECODE: '1', PYTHONUTF8: '1' });
  const ended = await run({ command: python.path, args: ['-S', '-s', '-c', compiler], input, env, signal });
  if (ended.code !== 0)
    throw new Error(`${python.path} cannot compile bytecode: ${ended.stderr.trim().split('\n').at(-1)}`);
}
