// Starts a TypeScript tool of this repository on the Node that it needs. Runs on Node 20 with nothing installed:
// installs the packages if they are missing or outdated, then goes on under the pinned Node 26 from node_modules.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const [script, ...args] = process.argv.slice(2);

/** The lockfile's packages as npm records them after an install, so that a stale node_modules is noticed. */
function installedMatchesLock() {
  try {
    const packagesOf = (file) => JSON.parse(readFileSync(join(root, file), 'utf8')).packages;
    const wanted = packagesOf('package-lock.json');
    const found = packagesOf('node_modules/.package-lock.json');
    return Object.entries(wanted).every(
      ([path, entry]) =>
        path === '' ||
        entry.optional ||
        entry.link ||
        !path.startsWith('node_modules/') ||
        found[path]?.version === entry.version,
    );
  } catch {
    return false;
  }
}

if (!installedMatchesLock()) {
  process.stderr.write('Installing packages (npm ci) …\n');
  const npm = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (npm.status !== 0) {
    process.stderr.write('npm ci failed; see above. Check the network and the registry settings, then start again.\n');
    process.exit(1);
  }
}

const major = Number(process.versions.node.split('.')[0]);
const bundled = join(root, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');
const node = existsSync(bundled) ? bundled : major >= 24 ? process.execPath : undefined;
if (!node) {
  process.stderr.write(
    `Stellwerk needs Node 24 or newer here: none is bundled for ${process.platform}-${process.arch}, and this is ${process.version}.\n`,
  );
  process.exit(1);
}

const child = spawn(node, ['--disable-warning=ExperimentalWarning', join(root, script), ...args], {
  stdio: 'inherit',
  // Compiled code is kept, so that the many processes and threads of a run start quickly.
  env: {
    NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'compiled'),
    ...process.env,
    PATH: `${dirname(node)}:${process.env.PATH}`,
  },
});
// A terminal's Ctrl+C reaches the child by itself, and a second one would end it at once.
process.on('SIGINT', () => process.stdin.isTTY || child.kill('SIGINT'));
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
child.on('exit', (code, signal) => process.exit(signal ? 1 : (code ?? 1)));
