// Unix sockets at any path. A socket's path may not exceed 107 bytes, and data folders may be deep; and a replica can write to the
// folder of its socket, so that what lies there may be a link to another program's socket. Both are avoided by going through an open
// descriptor: of the folder when listening, of the socket itself when connecting.
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { basename, dirname } from 'node:path';

/** Linux: opens the place itself, not what it leads to. Not among Node's constants. */
const O_PATH = 0o10000000;

/** A short name for a socket to listen at. Its folder stays open as long as this process lives. */
export function listenPath(path: string): string {
  const folder = openSync(dirname(path), O_PATH | constants.O_DIRECTORY);
  return `/proc/self/fd/${folder}/${basename(path)}`;
}

/** Connects to a socket that really is at this path. Throws at once if there is none. */
export function connectTo(path: string): Socket {
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  try {
    if (!fstatSync(fd).isSocket()) throw new Error(`What lies at ${path} is not a socket.`);
    const socket = connect({ path: `/proc/self/fd/${fd}` });
    const close = () => closeSync(fd);
    socket.once('connect', () => {
      socket.off('close', close);
      close();
    });
    socket.once('close', close);
    return socket;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}
