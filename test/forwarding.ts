// `stellwerk run forward` as a user has it open, until it is disposed of.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cli, type Installation, node, repository } from './installation.ts';

/** `address` leads to that port of the machine that the run is on. */
export async function forwarded(
  installation: Installation,
  run: string,
  port: string,
): Promise<AsyncDisposable & { address: string }> {
  const args = ['run', 'forward', run, port, '--local-port', '0', '--workspace', installation.workspace];
  const child = spawn(node[0], [node[1], cli, ...args], {
    env: installation.environment,
    cwd: repository,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const [line] = await Promise.race([once(child.stdout, 'data'), ended]);
  const [, address] = /^(127\.0\.0\.1:\d+) leads to port/.exec(String(line)) ?? [];
  if (address === undefined) throw new Error(`Nothing leads to the port ${port}: ${line}`);
  return {
    address,
    async [Symbol.asyncDispose]() {
      child.kill();
      await ended;
    },
  };
}
