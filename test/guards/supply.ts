import type { Guard } from './guard.ts';

const supply = 'tools/supply.test.ts';

export const supplyGuards: readonly Guard[] = [
  {
    attack: 'programs that npm packages run when they are installed',
    guard: 'install scripts are off',
    changes: [{ file: '.npmrc', code: 'ignore-scripts=true', without: '' }],
    test: supply,
    named: 'no package runs anything when it is installed',
  },
  {
    attack: 'another Python package than was resolved, under its name',
    guard: 'packages are installed by their hashes',
    changes: [
      {
        file: 'server/src/environment/environments.ts',
        code: "['--require-hashes', '--no-deps',",
        without: "['--no-deps',",
      },
    ],
    test: 'server/src/environment/environments.engine.test.ts',
    named: 'resolves requirements from the package index into a lock with hashes',
  },
  {
    attack: 'another layer or manifest than was asked for, from a registry',
    guard: 'what comes is what its digest says',
    changes: [
      {
        file: 'server/src/oci/digest.ts',
        code: '  if (found !== expected) throw digestMismatch(expected, found);',
        without: '',
      },
      {
        file: 'server/src/oci/import-image.ts',
        code: '  if (found !== descriptor.digest) throw digestMismatch(descriptor.digest, found);',
        without: '',
      },
    ],
    test: 'server/src/oci/registry-client.test.ts',
    named: 'changed bytes on the way are refused',
  },
];
