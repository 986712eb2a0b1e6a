import type { Guard } from './guard.ts';

const seal = 'server/src/vault/seal.ts';
const vaultTests = 'server/src/vault/vault.test.ts';
const runnerTests = 'python/tests/test_runner.py';
const story = 'test/secrets.test.ts';
const storyName = 'no secret of a run, of the server or of its users';

export const secretGuards: readonly Guard[] = [
  {
    attack: 'a token read from the list of processes',
    guard: 'a runner finds its token in a file',
    changes: [
      {
        file: 'server/src/compute/kinds/host/jobs.ts',
        code: "const program = await programIn(place, ['-m', 'stellwerk.runner', place.folder], this.#needs);",
        without:
          "const program = await programIn(place, ['-X', job.token, '-m', 'stellwerk.runner', place.folder], this.#needs);",
      },
    ],
    test: story,
    named: storyName,
  },
  {
    attack: 'secrets read from a copy of the database',
    guard: 'secrets of runs are sealed',
    changes: [
      {
        file: 'server/src/rooms.ts',
        code: 'const seal = (secret: string, place: string) => vault.seal(secret, place);',
        without: 'const seal = (secret: string, _place: string) => secret;',
      },
      {
        file: 'server/src/rooms.ts',
        code: 'unseal: (sealed, place) => vault.unseal(sealed, place),',
        without: 'unseal: (sealed, _place) => sealed,',
      },
    ],
    test: story,
    named: storyName,
  },
  {
    attack: 'secrets of runs that have ended',
    guard: 'they go with the end',
    changes: [
      {
        file: 'server/src/run/moves.ts',
        code: '  if (isEnd(to)) setPrivate(tx, row.key, { secrets: null });',
        without: '',
      },
    ],
    test: 'server/src/run/runs.test.ts',
    named: 'secrets reach the job and enter no record',
  },
  {
    attack: 'a sealed secret that is put in the place of another',
    guard: 'a secret opens at its place only',
    changes: [
      {
        file: seal,
        code: "createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(place));",
        without: "createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(''));",
      },
      {
        file: seal,
        code: 'nonce, options).setAAD(Buffer.from(place));',
        without: "nonce, options).setAAD(Buffer.from(''));",
      },
    ],
    test: vaultTests,
    named: 'does not open for another place',
  },
  {
    attack: 'the master key read by another user of the machine',
    guard: 'its file is its owner’s alone',
    changes: [
      {
        file: 'server/src/vault/master-key.ts',
        code: "openSync(partial, 'wx', 0o600)",
        without: "openSync(partial, 'wx', 0o644)",
      },
    ],
    test: vaultTests,
    named: 'is made once, for its owner alone',
  },
  {
    attack: 'a secret of one workspace read with another one’s',
    guard: 'each workspace has a data key of its own',
    changes: [
      {
        file: 'server/src/vault/vault.ts',
        code: '        sealed: sealWith(this.#master, randomBytes(keyBytes), place),',
        without: '        sealed: sealWith(this.#master, this.#own, place),',
      },
      {
        file: 'server/src/vault/secrets.ts',
        code: '  `secret/${workspace.toLowerCase()}/${name.toLowerCase()}/${version}`;',
        without: '  `secret/${workspace && name.toLowerCase()}/${version}`;',
      },
    ],
    test: vaultTests,
    named: 'belongs to its workspace: its data key opens none of another',
  },
  {
    attack: 'a secret used without anybody knowing',
    guard: 'what the server opens is written down',
    changes: [
      {
        file: 'server/src/vault/secrets.ts',
        code: "    await this.#needs.audit.record({ caller: 'server', verb: 'secrets.get', workspace, subject, outcome: 'done' });",
        without: '',
      },
    ],
    test: vaultTests,
    named: 'opened by the server is written down',
  },
  {
    attack: 'a secret in what a script prints',
    guard: 'values are masked',
    changes: [
      {
        file: 'python/src/stellwerk/runner/output.py',
        code: '            parts += (data[done : match.start()], MASK)',
        without: '            parts += (data[done : match.start()], match.group())',
      },
    ],
    test: 'python/tests/test_output.py',
    named: 'test_secrets_are_masked_wherever_the_stream_is_cut',
  },
  {
    attack: 'a secret in what a script prints, cut in two',
    guard: 'what may be the beginning of a secret waits for its rest',
    changes: [
      {
        file: 'python/src/stellwerk/runner/output.py',
        code: '            if data[start:] in self._prefixes:',
        without: '            if data[start:] in ():',
      },
    ],
    test: 'python/tests/test_output.py',
    named: 'test_secrets_are_masked_wherever_the_stream_is_cut',
  },
  {
    attack: 'the token of whoever starts a runner, read by its script',
    guard: 'scripts do not inherit it',
    changes: [
      {
        file: 'python/src/stellwerk/runner/environments.py',
        code: ', "__PYVENV_LAUNCHER__", "STELLWERK_TOKEN")',
        without: ', "__PYVENV_LAUNCHER__")',
      },
    ],
    test: runnerTests,
    named: 'test_the_package_never_shadows_the_one_of_the_environment',
  },
  {
    attack: 'secrets in the memory that a crash leaves on the disk',
    guard: 'runners and scripts leave none, unless a script wants it',
    changes: [
      {
        file: 'python/src/stellwerk/runner/attempt.py',
        code: 'resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))',
        without: 'resource.getrlimit(resource.RLIMIT_CORE)',
      },
    ],
    test: runnerTests,
    named: 'test_a_crash_leaves_no_memory_of_the_run_on_the_disk',
  },
  {
    attack: 'another run’s files, environment and memory, and the data folder',
    guard: 'each run has a Unix id of its own, where others reach the server',
    changes: [
      {
        file: 'server/src/compute/kinds/host/place.ts',
        code: ', user: { uid, gid: uid } };',
        without: ' };',
      },
    ],
    test: 'server/src/compute/kinds/host/host.engine.test.ts',
    named: 'under other Unix ids, no run reads the data folder',
  },
  {
    attack: 'processes of a script that outlive its end',
    guard: 'all that a script ever started is ended with it',
    changes: [
      {
        file: 'python/src/stellwerk/runner/processes.py',
        code: `            if self.cgroup:
                self.cgroup.kill()
            if not self.signal(signal.SIGKILL):`,
        without: '            if self.signal(0) is not None:',
      },
    ],
    test: runnerTests,
    named: 'test_a_killed_guard_fails_the_run_and_leaves_no_process',
  },
  {
    attack: 'processes of a script whose runner was killed',
    guard: 'the guard sees that the runner is gone, and ends them',
    changes: [
      {
        file: 'python/src/stellwerk/runner/guard.py',
        code: `            if self.family:
                self.family.kill()
            return`,
        without: '            return',
      },
    ],
    test: runnerTests,
    named: 'test_a_killed_runner_takes_all_processes_with_it',
  },
  {
    attack: 'a content of others, by its digest, with the token of a run',
    guard: 'a run’s token has what was brought with it',
    changes: [
      {
        file: 'server/src/blob/store.ts',
        code: '  return brought.get(workspace, digest, run) !== undefined;',
        without: '  return brought.get(workspace, digest, run) !== null;',
      },
    ],
    test: 'server/src/blob/blobs.test.ts',
    named: "a run's token has the contents that it brought itself",
  },
  {
    attack: 'a content of others that is nearly sent, completed with the token of a run',
    guard: 'each run’s uploads are its own',
    changes: [
      {
        file: 'server/src/blob/uploads.ts',
        code: '    const name = by === undefined ? hex :',
        without: '    const name = by === undefined || hex ? hex :',
      },
    ],
    test: 'server/src/blob/blobs.test.ts',
    named: "a run's token has the contents that it brought itself",
  },
];
