// The socket through which the server asks and steers the gateway: GET /status, POST /reload, POST /stop. Only for who may read its folder.
import { chmodSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connectTo, listenPath } from './socket-path.ts';

export interface ControlVerbs {
  status: () => unknown;
  reload: () => Promise<unknown>;
  stop: () => void;
}

/** Rejects if another gateway serves this folder. */
export async function serveControl(path: string, verbs: ControlVerbs): Promise<Server> {
  if (await answers(path)) throw new Error(`Another gateway is running: it answers at ${path}.`);
  rmSync(path, { force: true });
  const routes: Record<string, () => unknown> = {
    'GET /status': verbs.status,
    'POST /reload': verbs.reload,
    'POST /stop': verbs.stop,
  };
  const server = createServer(async (request, response) => {
    const verb = routes[`${request.method} ${request.url}`];
    const result = await verb?.();
    response.writeHead(verb ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(result ?? {}));
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once('error', reject).listen(listenPath(path), resolve);
  await promise;
  chmodSync(path, 0o600);
  return server;
}

function answers(path: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  try {
    const socket = connectTo(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  } catch {
    resolve(false);
  }
  return promise;
}
