// A port for a server that has to be told one.
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';

/** Free a moment ago. */
export async function freePort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return String(port);
}
