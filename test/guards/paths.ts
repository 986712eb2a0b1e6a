import type { Guard } from './guard.ts';

const paths = 'contract/src/paths.ts';
const snapshots = 'server/src/snapshot/snapshots.test.ts';

export const pathGuards: readonly Guard[] = [
  {
    attack: '`../` in a path',
    guard: 'no part of a path is `..`',
    changes: [{ file: paths, code: "part === '.' || part === '..'", without: "part === '.'" }],
    test: snapshots,
    named: 'the path "../evil" is refused',
  },
  {
    attack: 'an absolute path',
    guard: 'no path begins with a slash',
    changes: [
      { file: paths, code: "if (path.startsWith('/')) return 'it is absolute';", without: '' },
      { file: paths, code: "if (part === '') return 'it has an empty part';", without: '' },
    ],
    test: snapshots,
    named: 'the path "/etc/passwd" is refused',
  },
];
