import type { Guard } from './guard.ts';

const outbound = 'server/src/oci/outbound.ts';
const registries = 'server/src/oci/registry-client.test.ts';
const reference = 'server/src/oci/registry-reference.ts';
const references = 'server/src/oci/registry-reference.test.ts';
const writtenOut = {
  file: outbound,
  code: 'if (!allowed && isIP(host) !== 0 && !isPublicAddress(host))',
  without: 'if (false)',
};
const whenConnecting = { file: outbound, code: '...(allowed ? {} : { lookup: publicOnly })', without: '' };
const origins = 'server/src/environment/origins.ts';
const specifications = 'server/src/environment/hostile-files.engine.test.ts';

export const addressGuards: readonly Guard[] = [
  ...['127.0.0.1', '[::1]', '2130706433', '0177.0.0.1'].map((host) => ({
    attack: `an image from \`${host}\``,
    guard: 'an address that is written out, in whatever way, must be public',
    changes: [writtenOut],
    test: registries,
    named: `the server does not connect to itself as ${host} unless`,
  })),
  {
    attack: 'an image from a name that means a private address, or begins to between check and connection',
    guard: 'names are looked at when connecting',
    changes: [whenConnecting],
    test: registries,
    named: 'the server does not connect to itself as localhost unless',
  },
  ...(
    [
      ['169.254.0.0', 16, '169.254.169.254'],
      ['10.0.0.0', 8, '10.1.2.3'],
      ['172.16.0.0', 12, '172.31.0.1'],
      ['192.168.0.0', 16, '192.168.1.1'],
      ['fe80::', 10, 'fe80::1'],
      ['fc00::', 7, 'fd00::1'],
      ['2002::', 16, '2002:7f00:1::'],
    ] as const
  ).map(([network, bits, address]) => ({
    attack: `the network of \`${address}\``,
    guard: 'it is not public',
    changes: [{ file: outbound, code: `['${network}', ${bits}],`, without: '' }],
    test: registries,
    named: `${address} is no public address`,
  })),
  {
    attack: 'a redirect into the private network',
    guard: 'each hop is checked as the first',
    changes: [writtenOut],
    test: registries,
    named: 'a redirect to https://[::1]:1/x is not followed',
  },
  {
    attack: 'a redirect that takes the token along',
    guard: 'only the registry itself gets it',
    changes: [
      {
        file: 'server/src/oci/registry-client.ts',
        code: 'url.host === start.host ? authorization : undefined',
        without: 'authorization',
      },
    ],
    test: registries,
    named: 'the token goes to the registry only',
  },
  {
    attack: 'a redirect to another protocol',
    guard: 'only HTTPS is spoken',
    changes: [{ file: outbound, code: "if (url.protocol !== 'https:' && ", without: 'if (false && ' }, writtenOut],
    test: registries,
    named: 'a redirect to http://[::1]:1/x is not followed',
  },
  {
    attack: 'a private address behind a proxy',
    guard: 'the proxy is not asked for a name of this machine',
    changes: [{ file: outbound, code: 'if (!allowed) await checkName(url.hostname);', without: '' }],
    test: 'server/src/oci/outbound.test.ts',
    named: 'a proxy is not asked to reach localhost',
  },
  {
    attack: 'a password in the name of an image',
    guard: 'what follows `@` is a digest',
    changes: [
      { file: reference, code: 'if (digest !== undefined && !isDigest(digest)) throw noReference(text);', without: '' },
    ],
    test: references,
    named: 'the reference "user:pw@x.org/a" is refused',
  },
  {
    attack: 'line breaks, `?`, `#` or `..` in the name of an image',
    guard: 'repositories have a pattern',
    changes: [{ file: reference, code: '!repository.test(name) || ', without: '' }],
    test: references,
    named: 'the reference "x.org/a\\r\\nb" is refused',
  },
  {
    attack: 'a package from an address of the user, on a server of several users',
    guard: 'only the server’s own indexes are asked',
    changes: [{ file: origins, code: 'if (url && !origins.has(originOf(url))) throw unknown(url);', without: '' }],
    test: specifications,
    named: 'a package from https://169.254.169.254/x.whl is refused',
  },
  {
    attack: 'a package from `file:`, `ftp:` or a folder of the server',
    guard: 'only web addresses are fetched',
    changes: [
      {
        file: 'server/src/environment/requirements-file.ts',
        code: 'if (!/^https?:\\/\\/[^\\s/]/.test(url) || !URL.parse(url))',
        without: 'if (false)',
      },
    ],
    test: specifications,
    named: 'a package from file:///etc/passwd is refused everywhere',
  },
  {
    attack: 'a package index of the user, on a server of several users',
    guard: 'only the server’s own indexes are asked',
    changes: [
      {
        file: origins,
        code: 'if (!known.includes(url) && !(isWeb(url) && origins.has(originOf(url)))) throw unknown(url);',
        without: '{}',
      },
    ],
    test: specifications,
    named: 'a package from https://169.254.169.254/x.whl is refused',
  },
];

export const indirectionGuards: readonly Guard[] = [
  {
    attack: 'a model from contents of another workspace',
    guard: 'contents are looked up within the workspace',
    changes: [
      {
        file: 'server/src/blob/store.ts',
        code: "'SELECT size_bytes FROM blob_held WHERE workspace = ? AND digest = ?')\n    .get(workspace, digest)",
        without: "'SELECT size_bytes FROM blob_held WHERE digest = ?')\n    .get(digest)",
      },
    ],
    test: 'server/src/model/models.test.ts',
    named: 'contents of another workspace cannot be registered',
  },
  {
    attack: 'an image’s folder whose files are links to files of the server',
    guard: 'what they lead to must lie in the folder',
    changes: [
      {
        file: 'server/src/oci/archive-files.ts',
        code: 'if (!path.startsWith(this.#dir + sep))',
        without: 'if (false)',
      },
    ],
    test: 'server/src/oci/oci-images.test.ts',
    named: 'links in a layout folder cannot lead out of it',
  },
  {
    attack: 'a docker-save archive that names files of the server as its parts',
    guard: 'its names are paths of the archive',
    changes: [
      {
        file: 'server/src/oci/docker-archive.ts',
        code: 'for (const path of [Config, ...Layers]) checkPath(path);',
        without: '',
      },
      {
        file: 'server/src/oci/archive-files.ts',
        code: '  #find(name: string) {\n    checkPath(name);',
        without: '  #find(name: string) {',
      },
    ],
    test: 'server/src/oci/oci-images.test.ts',
    named: 'a docker-save archive cannot name files outside of itself',
  },
];
