// Another day for a program and all that it starts, however little of its environment it passes on: in a mount namespace of
// its own, /etc says that each program is loaded with the library that moves its clock.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeFiles } from './work-folder.ts';

/** Far enough for another date everywhere, near enough for the certificates of those who serve packages. */
const days = 2;

/** `within` is what to put before a command. */
export function otherDay(): Disposable & { folder: string; within: readonly string[] } {
  const folder = mkdtempSync(join(tmpdir(), 'stellwerk-other-day-'));
  writeFiles(folder, {
    'etc/ld.so.preload': '/usr/$LIB/faketime/libfaketimeMT.so.1\n',
    'etc/faketimerc': `+${days}d\n`,
  });
  // Root for the mount; then an ordinary user, as most who start a server are.
  const script =
    'mount -t overlay overlay -o "lowerdir=$0/etc:/etc" /etc && exec unshare --map-user=1000 --map-group=1000 "$@"';
  return {
    folder,
    within: ['unshare', '--map-root-user', '--mount', 'sh', '-c', script, folder],
    [Symbol.dispose]: () => rmSync(folder, { recursive: true, force: true }),
  };
}
otherDay.days = days;
