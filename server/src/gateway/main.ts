// The gateway, a process of its own: `node main.ts <folder>`. It goes on serving while the server restarts, and knows nothing of it but
// two files in the folder: how to listen, and the routes.
import { randomBytes } from 'node:crypto';
import { readFileSync, rmSync } from 'node:fs';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { AccessLog } from './access-log.ts';
import { serveControl } from './control.ts';
import { createFront } from './front.ts';
import { files, type GatewayStatus, gatewaySettings } from './routes.ts';
import { RoutesWatch } from './routes-watch.ts';
import { ServiceTable } from './service-table.ts';

/** For requests in flight when the gateway is stopped. */
const stopMs = 70_000;
/** While stopping, connections whose last request has ended are closed this often. */
const idleMs = 50;

async function main(folder: string): Promise<void> {
  const settings = gatewaySettings.parse(JSON.parse(readFileSync(join(folder, files.settings), 'utf8')));
  const now = () => performance.now();
  const table = new ServiceTable(now);
  const watch = new RoutesWatch(join(folder, files.routes), (routes) => table.replace(routes));
  const accessLog = settings.accessLog ? new AccessLog(join(folder, files.accessLog), () => new Date()) : undefined;
  const tls = settings.tls && {
    cert: readFileSync(settings.tls.certificateFile),
    key: readFileSync(settings.tls.keyFile),
  };
  const prefix = randomBytes(6).toString('hex');
  let count = 0;
  const front = createFront({
    table,
    now,
    makeId: () => `${prefix}-${(++count).toString(36)}`,
    ...(tls && { tls }),
    ...(settings.hosts && { hosts: settings.hosts }),
    ...(settings.slow && { slow: settings.slow }),
    ...(accessLog && { onAnswered: (answered) => accessLog.add(answered) }),
  });
  const status = (): GatewayStatus => ({
    pid: process.pid,
    version: settings.version,
    host: settings.host,
    port: (front.address() as AddressInfo | null)?.port ?? 0,
    generation: table.generation,
    ...(watch.error !== undefined && { routesError: watch.error }),
    ...table.status(),
  });
  await watch.reload();
  await listening(front, settings.host, settings.port);
  const control = await serveControl(join(folder, files.control), {
    status,
    reload: async () => {
      await watch.reload();
      return status();
    },
    stop: () => void stop(),
  });
  let stopping = false;
  const stop = async () => {
    if (stopping) return;
    stopping = true;
    setTimeout(() => process.exit(1), stopMs).unref();
    watch.close();
    const closed = Promise.withResolvers<void>();
    front.close(() => closed.resolve());
    const idle = setInterval(() => front.closeIdleConnections(), idleMs);
    await closed.promise;
    clearInterval(idle);
    await table.close();
    rmSync(join(folder, files.control), { force: true });
    control.close();
    control.closeAllConnections();
    process.exit(0);
  };
  // A fault of ours in one request must not end all the others.
  process.on('uncaughtException', (error) => void process.stderr.write(`${error.stack}\n`));
  process.on('SIGTERM', () => void stop());
  process.on('SIGINT', () => void stop());
}

function listening(server: Server, host: string, port: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject);
  server.listen(port, host, 4_096, () => {
    server.off('error', reject);
    resolve();
  });
  return promise;
}

await main(process.argv[2]!).catch((error: Error) => {
  process.stderr.write(`The gateway could not start: ${error.message}\n`);
  process.exit(1);
});
