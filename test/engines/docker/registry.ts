// A registry of images that wants to be signed in to, beside an engine: in its network, and reached by nobody else.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

export const whyNoRegistry: string | undefined =
  spawnSync('which', ['docker-registry'], { stdio: 'ignore' }).status === 0 ? undefined : 'needs docker-registry';

export const registrySignIn = { user: 'puller', password: 'pull-secret' };

export interface Registry {
  /** As names of images begin. */
  name: string;
  stop(): void;
}

export async function startRegistry(folder: string, network: string): Promise<Registry> {
  const own = join(folder, 'registry');
  mkdirSync(own);
  const { user, password } = registrySignIn;
  const hash = 'import crypt, sys; print(crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH)))';
  const hashed = execFileSync('python3', ['-W', 'ignore', '-c', hash, password], { encoding: 'utf8' }).trim();
  writeFileSync(join(own, 'htpasswd'), `${user}:${hashed}\n`, { mode: 0o600 });
  writeFileSync(join(own, 'config.yml'), configuration(own));
  const child = spawn('nsenter', [`--net=/run/netns/${network}`, 'docker-registry', 'serve', join(own, 'config.yml')], {
    stdio: 'ignore',
  });
  const name = '127.0.0.1:5000';
  const asked = ['nsenter', `--net=/run/netns/${network}`, 'python3', '-c', answers];
  for (let tries = 0; tries < 200 && spawnSync(asked[0]!, asked.slice(1)).status !== 0; tries++) await pause(50);
  return { name, stop: () => child.kill('SIGKILL') };
}

const answers = 'import socket; socket.create_connection(("127.0.0.1", 5000), 1)';

function configuration(folder: string): string {
  return `version: 0.1
storage:
  filesystem:
    rootdirectory: ${folder}/data
http:
  addr: 127.0.0.1:5000
auth:
  htpasswd:
    realm: test
    path: ${folder}/htpasswd
`;
}
