import type { Guard } from './guard.ts';

const room = 'server/src/registry/registry.ts';
const routes = 'server/src/http/registry-routes.ts';
const test = 'server/src/http/registry-routes.test.ts';

/** Asked when signing in, and again with each request. */
const roleAsked = {
  file: room,
  code: "    const mayStill = scope === 'catalog' || (await this.#mayRead(caller, scope.workspace, scope.image));\n",
  without: '    const mayStill = true;\n',
};
const partAsked = {
  file: room,
  code: 'if (await this.#hasPart(repository, digest)) return',
  without: 'if (repository !== undefined) return',
};

export const registryGuards: readonly Guard[] = [
  {
    attack: 'images pulled under the name of another user',
    guard: 'the token that is the password must be that user’s',
    changes: [
      {
        file: room,
        code: "if (caller.kind !== 'user' || caller.user !== user)",
        without: "if (caller.kind !== 'user')",
      },
    ],
    test,
    named: 'takes the user name with a token of that user, and nothing else',
  },
  {
    attack: 'a token to pull with that somebody found later',
    guard: 'it is good for minutes',
    changes: [{ file: room, code: '!claimed || claimed.until <= this.#needs.now()', without: '!claimed' }],
    test,
    named: 'gives a token for minutes',
  },
  {
    attack: 'pulling after the role was taken away',
    guard: 'the role is asked for with each request',
    changes: [roleAsked],
    test,
    named: 'ends at once with the role',
  },
  {
    attack: 'images of a workspace without a role in it',
    guard: 'a token names what its user may read only',
    changes: [
      { file: room, code: 'else if (await this.#mayRead(caller, workspace, image)) good', without: 'else good' },
      roleAsked,
    ],
    test,
    named: 'from no workspace without a role in it',
  },
  {
    attack: 'a token for one image used for another',
    guard: 'it names the repositories that it is good for',
    changes: [{ file: room, code: '!mayStill || !scopes.includes(asked)', without: '!mayStill' }],
    test,
    named: 'with a token for that repository only',
  },
  {
    attack: 'layers of others, by their digests',
    guard: 'a part is had through an image that consists of it',
    changes: [partAsked],
    test,
    named: 'with what lies in it only',
  },
  {
    attack: 'manifests of others, by their digests',
    guard: 'a manifest is had through the image whose it is',
    changes: [
      {
        file: room,
        code: '(await shelf.hasManifest(workspace, name, reference)) ? reference : undefined',
        without: 'reference',
      },
    ],
    test,
    named: 'with what lies in it only',
  },
  {
    attack: 'a path in place of a digest',
    guard: 'a digest is 64 digits, and of the image',
    changes: [
      { file: room, code: '    if (!isDigest(digest))\n', without: '    if (repository === undefined)\n' },
      partAsked,
    ],
    test,
    named: 'by addresses that are what they seem',
  },
  {
    attack: 'an image that was made for somebody’s run, by its digest and a user’s token',
    guard: 'only that run reads it',
    changes: [
      {
        file: room,
        code: 'madeIn(image) === undefined && this.#hasRole',
        without: 'this.#hasRole',
      },
    ],
    test,
    named: 'is no user’s to pull',
  },
  {
    attack: 'other images, with what a run’s own is pulled with',
    guard: 'it names one repository',
    changes: [
      {
        file: 'server/src/registry/run-pulls.ts',
        code: '    return isOwn && this.#needs.isOn(pull);\n',
        without: '    return isOwn || this.#needs.isOn(pull);\n',
      },
    ],
    test,
    named: 'is pulled whole with the sign-in of that run',
  },
  {
    attack: 'pulling with what a run had that is over',
    guard: 'whether the attempt is on is asked for with each request',
    changes: [
      {
        file: 'server/src/registry/run-pulls.ts',
        code: '    return isOwn && this.#needs.isOn(pull);\n',
        without: '    return isOwn;\n',
      },
    ],
    test,
    named: 'is pulled no more once that attempt is over',
  },
  {
    attack: 'quotes and line breaks in a header, by an address',
    guard: 'only what can be a repository is asked for in a challenge',
    changes: [
      {
        file: routes,
        code: '  return /^[a-z0-9-]+\\/[a-z0-9._-]+$/.test(`${workspace}/${image}`)\n',
        without: '  return workspace\n',
      },
    ],
    test,
    named: 'by addresses that are what they seem',
  },
  {
    attack: 'names of images of another workspace, by going on in a list from there',
    guard: 'the role is asked for where a list goes on',
    changes: [
      {
        file: room,
        code: '    if (lastWorkspace !== undefined && (await this.#hasRole(caller, lastWorkspace)))\n',
        without: '    if (lastWorkspace !== undefined)\n',
      },
    ],
    test,
    named: 'of the workspaces that the caller sees, page by page',
  },
  {
    attack: 'the keys of the server’s own authority read by other users of the machine',
    guard: 'files of keys are open to their owner only',
    changes: [
      {
        file: 'server/src/http/certificates.ts',
        code: "write(file, x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'), 0o600);",
        without: "write(file, x509.PemConverter.encode(pkcs8, 'PRIVATE KEY'), 0o644);",
      },
    ],
    test: 'server/src/http/certificates.test.ts',
    named: 'keys are for the eyes of the server’s user only',
  },
  {
    attack: 'the authority’s key in a backup that was made to be without keys',
    guard: 'it is left out with the master key',
    changes: [
      {
        file: 'server/src/backup/backups.ts',
        code: '...(withoutKey ? [] : secret)',
        without: '...secret',
      },
    ],
    test: 'server/src/backup/backups.test.ts',
    named: 'without the key is restored only with the key',
  },
];
