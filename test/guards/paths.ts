import type { Guard } from './guard.ts';

const rules = 'contract/src/paths.ts';
const snapshots = 'server/src/snapshot/snapshots.test.ts';
const folder = 'server/src/datastore/kinds/local/folder.ts';
const folders = 'server/src/datastore/kinds/local/local.test.ts';
const pythonRules = 'python/src/stellwerk/_files.py';

export const pathGuards: readonly Guard[] = [
  {
    attack: '`../`',
    guard: 'no part of a path is `..`',
    changes: [{ file: rules, code: "part === '.' || part === '..'", without: "part === '.'" }],
    test: snapshots,
    named: 'the path "../evil" is refused',
  },
  {
    attack: '`..\\`, `\\\\host\\share`',
    guard: 'no path has a backslash',
    changes: [{ file: rules, code: "if (path.includes('\\\\')) return 'it has a backslash';", without: '' }],
    test: snapshots,
    named: 'the path "..\\\\evil" is refused',
  },
  {
    attack: 'an absolute path',
    guard: 'no path begins with a slash, nor has an empty part',
    changes: [
      { file: rules, code: "if (path.startsWith('/')) return 'it is absolute';", without: '' },
      { file: rules, code: "if (part === '') return 'it has an empty part';", without: '' },
    ],
    test: snapshots,
    named: 'the path "/etc/passwd" is refused',
  },
  {
    attack: '`C:\\`, `C:`',
    guard: 'no path begins with a drive letter',
    changes: [{ file: rules, code: "if (/^[a-z]:/i.test(path)) return 'it begins with a drive letter';", without: '' }],
    test: snapshots,
    named: 'the path "C:evil" is refused',
  },
  {
    attack: 'NUL',
    guard: 'no path has one',
    changes: [{ file: rules, code: "if (path.includes('\\0')) return 'it has a NUL character';", without: '' }],
    test: snapshots,
    named: 'the path "a\\u0000b" is refused',
  },
  {
    attack: 'a very long path',
    guard: 'paths have a limit',
    changes: [{ file: rules, code: 'if (path.length > limits.pathLength)', without: 'if (false)' }],
    test: snapshots,
    named: 'the path "x/x/',
  },
  {
    attack: 'a very long part of a path',
    guard: 'parts of paths have a limit',
    changes: [
      { file: rules, code: 'if (new TextEncoder().encode(part).length > limits.pathPartBytes)', without: 'if (false)' },
    ],
    test: snapshots,
    named: 'the path "xxx',
  },
  {
    attack: 'half of a character, which other programs take for another',
    guard: 'paths are valid Unicode',
    changes: [{ file: rules, code: 'if (/[\\ud800-\\udfff]/.test(', without: 'if (/(?!)/.test(' }],
    test: snapshots,
    named: 'the path "\\ud800" is refused',
  },
  {
    attack: '`%2e%2e%2f`, also encoded twice, `%c0%ae`, `file:`, `#`, `?`, characters that look alike',
    guard: 'a name is taken as it is: nothing is decoded',
    changes: [
      {
        file: folder,
        code: '`/proc/self/fd/${this.#handle.fd}/${name}`',
        without: '`/proc/self/fd/${this.#handle.fd}/${decodeURIComponent(name)}`',
      },
    ],
    test: folders,
    named: 'takes names that mean something elsewhere for names',
  },
  {
    attack: 'an encoded slash in a name that stands in an address',
    guard: 'names have no slash',
    changes: [
      {
        file: 'contract/src/values.ts',
        code: '[^\\u0000-\\u001f\\u007f-\\u009f\\ufeff/\\\\]+(?<!\\s)$/',
        without: '[^\\u0000-\\u001f\\u007f-\\u009f\\ufeff\\\\]+(?<!\\s)$/',
      },
    ],
    test: 'server/src/http/input.test.ts',
    named: 'with an escaped slash in a name is refused by the name',
  },
  ...(
    [
      [
        'a datastore',
        'server/src/datastore/datastores.ts',
        "checkPath(input.path.replace(/(?<=.)\\/$/, ''))",
        "input.path.replace(/(?<=.)\\/$/, '')",
        'server/src/datastore/datastores.test.ts',
        'is refused by every verb',
      ],
      [
        'a model, by file',
        'server/src/model/models.ts',
        'checkPath(input.path)',
        'input.path',
        'server/src/model/models.test.ts',
        'is refused by every verb',
      ],
      [
        'a model, by what is uploaded',
        'server/src/model/source.ts',
        'paths.has(checkPath(path))',
        'paths.has(path)',
        'server/src/model/models.test.ts',
        'is refused by every verb',
      ],
      [
        'a model, from a run',
        'server/src/model/source.ts',
        'checkPath(given)',
        'given',
        'server/src/model/models.test.ts',
        'is refused by every verb',
      ],
      [
        'a log',
        'server/src/telemetry/logs.ts',
        'checkPath(input.name);',
        'input.name;',
        'server/src/telemetry/logs.test.ts',
        'names and ids are free text and never leave the folder',
      ],
      [
        'the files of a run',
        'server/src/run/entries.ts',
        '  checkPath(path);',
        '',
        'server/src/run/runs.test.ts',
        'are put, replaced',
      ],
      [
        'the files of an image',
        'server/src/image/recipe.ts',
        'files.has(checkPath(path))',
        'files.has(path)',
        'server/src/image/images.test.ts',
        'nothing is registered that cannot be built',
      ],
      [
        'a base image in a datastore',
        'server/src/image/recipe.ts',
        'checkPath(datastore[2]!)',
        'datastore[2]!',
        'server/src/image/images.test.ts',
        'nothing is registered that cannot be built',
      ],
    ] as const
  ).map(([what, file, code, without, test, named]) => ({
    attack: `any of these, in ${what}`,
    guard: 'the path is checked',
    changes: [{ file, code, without }],
    test,
    named,
  })),
  {
    attack: 'names that differ only in their case, or in how letters are composed',
    guard: 'they cannot be in one snapshot',
    changes: [
      {
        file: 'server/src/snapshot/listing.ts',
        code: "return path.normalize('NFC').toLowerCase();",
        without: 'return path;',
      },
    ],
    test: 'server/src/snapshot/listing.test.ts',
    named: '["Train.py","train.py"] cannot be together',
  },
  {
    attack: 'a symbolic link to a folder, in a datastore',
    guard: 'folders are opened without following links',
    changes: [
      {
        file: folder,
        code: 'constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;',
        without: 'constants.O_RDONLY | constants.O_DIRECTORY;',
      },
    ],
    test: folders,
    named: 'links in the folder are not followed',
  },
  {
    attack: 'a symbolic link to a file, in a datastore',
    guard: 'what is not a plain file is not opened, and opening follows no link',
    changes: [
      { file: folder, code: "if ((await this.kindOf(name)) !== 'file') return undefined;", without: '' },
      { file: folder, code: ' | constants.O_NOFOLLOW | constants.O_NONBLOCK', without: ' | constants.O_NONBLOCK' },
    ],
    test: folders,
    named: 'links in the folder are not followed',
  },
  {
    attack: 'a pipe or a device, in a datastore',
    guard: 'what is not a plain file is not opened, and closed if it became one meanwhile',
    changes: [
      { file: folder, code: "if ((await this.kindOf(name)) !== 'file') return undefined;", without: '' },
      { file: folder, code: '(await handle.stat()).isFile()', without: 'true' },
    ],
    test: folders,
    named: 'pipes and devices are not there',
  },
  {
    attack: 'a folder exchanged for a link while it is read or written',
    guard: 'each step is taken from the folder held open',
    changes: [{ file: folder, code: "existsSync('/proc/self/fd')", without: 'false' }],
    test: folders,
    named: 'nothing outside is reached while a folder is exchanged',
  },
  {
    attack: 'a file of a datastore that is a hard link to stored content, then written to by whoever has the folder',
    guard: 'contents are copied into a datastore',
    changes: [
      {
        file: 'server/src/datastore/kinds/local/local.ts',
        code: 'copyFile(content.file, path, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE)',
        without: 'link(content.file, path)',
      },
    ],
    test: folders,
    named: 'content that is a file on this machine is copied, not linked',
  },
  {
    attack: 'a link in a project folder, to a file outside of it (command line)',
    guard: 'what it leads to must lie in the folder',
    changes: [
      {
        file: 'client/src/snapshot-listing.ts',
        code: 'if (real !== root && !real.startsWith(root + sep))',
        without: 'if (false)',
      },
    ],
    test: 'client/src/snapshot-listing.test.ts',
    named: 'follows links inside the folder',
  },
  {
    attack: 'a link in a project folder, to a file outside of it (Python)',
    guard: 'what it leads to must lie in the folder',
    changes: [
      {
        file: 'python/src/stellwerk/_snapshots.py',
        code: 'if real != root and not real.startswith(root + os.sep):',
        without: 'if False:',
      },
    ],
    test: 'python/tests/test_snapshots.py',
    named: 'test_links_inside_are_followed_and_links_to_outside_refused',
  },
  {
    attack: 'a server that names files outside of the folder they are downloaded to (command line)',
    guard: 'the path is checked',
    changes: [{ file: 'client/src/downloads.ts', code: 'checkPath(file.path)', without: 'file.path' }],
    test: 'client/src/transfers.test.ts',
    named: 'refuses a path of the server that leads out of the folder',
  },
  {
    attack: 'a server that names files outside of the folder they are downloaded to (Python)',
    guard: 'the path is checked',
    changes: [{ file: pythonRules, code: 'if part in (".", ".."):', without: 'if part == ".":' }],
    test: 'python/tests/test_snapshots.py',
    named: 'test_paths_that_lead_out_of_the_folder_are_not_written',
  },
  {
    attack: 'a link that a script leaves among its outputs, to a file outside of its working directory',
    guard: 'what it leads to must lie in the working directory',
    changes: [
      {
        file: 'python/src/stellwerk/runner/outputs.py',
        code: 'if not why and os.path.islink(path) and not real.startswith(self._work + os.sep):',
        without: 'if False:',
      },
    ],
    test: 'python/tests/test_outputs.py',
    named: 'test_a_link_that_leads_out_of_the_working_directory',
  },
];
