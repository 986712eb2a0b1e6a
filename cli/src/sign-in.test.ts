import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { splitLink } from './commands/login.ts';
import { credentialsFile, forgetSignIn, keepSignIn, readCredentials } from './credentials.ts';
import { withoutCredentials } from './git.ts';
import { Session } from './session.ts';
import { surroundings } from './surroundings.ts';
import { findWorkspaceFile, writeWorkspaceFile } from './workspace-file.ts';

const before = { ...surroundings };
const from = process.cwd();
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'sign in ü '));
  Object.assign(surroundings, {
    configFolder: join(folder, 'config'),
    url: undefined,
    token: undefined,
    workspace: undefined,
  });
});
afterEach(() => {
  process.chdir(from);
  Object.assign(surroundings, before);
  rmSync(folder, { recursive: true });
});

it('keeps sign-ins for this user alone, several side by side', () => {
  keepSignIn('http://a:1/', { token: 'one' });
  keepSignIn('http://b:2', { token: 'two', caBundle: '/x.pem' });
  expect(statSync(credentialsFile()).mode & 0o777).toBe(0o600);
  expect(readCredentials()).toEqual({
    servers: { 'http://a:1': { token: 'one' }, 'http://b:2': { token: 'two', caBundle: '/x.pem' } },
    current: 'http://b:2',
  });
  expect(forgetSignIn('http://b:2/')).toBe(true);
  expect(forgetSignIn('http://b:2')).toBe(false);
  expect(readCredentials()).toEqual({ servers: { 'http://a:1': { token: 'one' } } });
});

it('takes the address and the code from a sign-in link', () => {
  expect(splitLink('http://127.0.0.1:8470/sign-in#a%2Fb')).toEqual({ url: 'http://127.0.0.1:8470', code: 'a/b' });
  expect(splitLink('https://host/stellwerk/sign-in#x')).toEqual({ url: 'https://host/stellwerk', code: 'x' });
  expect(splitLink('localhost:8470')).toEqual({ url: 'http://localhost:8470', code: '' });
  expect(() => splitLink('http://')).toThrow(/is not an address/);
});

it('finds the workspace from any folder below, Azure ML files too, and keeps what else stands there', () => {
  const deep = join(folder, 'work', 'a b', 'ü');
  mkdirSync(join(folder, 'work', '.azureml'), { recursive: true });
  mkdirSync(deep, { recursive: true });
  writeFileSync(
    join(folder, 'work', '.azureml', 'config.json'),
    '\ufeff{"subscription_id": "s", "workspace_name": "old"}',
  );
  expect(findWorkspaceFile(deep)).toMatchObject({ workspace: 'old' });
  mkdirSync(join(folder, 'work', '.stellwerk'));
  writeFileSync(join(folder, 'work', '.stellwerk', 'config.json'), '{"resource_group": "g"}');
  writeWorkspaceFile(join(folder, 'work'), 'http://a:1', 'team');
  expect(findWorkspaceFile(deep)).toMatchObject({ workspace: 'team', url: 'http://a:1' });
  expect(readFileSync(join(folder, 'work', '.stellwerk', 'config.json'), 'utf8')).toContain('"resource_group": "g"');
});

it('a token from the environment never goes to an address that a file of some folder names', () => {
  keepSignIn('http://mine:1', { token: 'kept' });
  process.chdir(folder);
  writeWorkspaceFile(folder, 'http://evil:666', 'team');
  Object.assign(surroundings, { token: 'from-environment' });
  expect(new Session({}).url).toBe('http://evil:666');
  expect(new Session({}).token).toBeUndefined();
  expect(new Session({ url: 'http://mine:1' }).token).toBe('from-environment');
  Object.assign(surroundings, { url: 'http://other:2' });
  expect(new Session({}).token).toBe('from-environment');
  Object.assign(surroundings, { token: undefined });
  expect(new Session({ url: 'http://mine:1' }).token).toBe('kept');
});

it('asks for a workspace only when one is needed, and says how to give it', () => {
  process.chdir(folder);
  expect(() => new Session({}).workspace).toThrow(/No workspace is named/);
  expect(new Session({ workspace: 'x1' }).workspace).toBe('x1');
  expect(existsSync(credentialsFile())).toBe(false);
});

it('takes credentials out of a git remote', () => {
  expect(withoutCredentials('https://me:secret@host/x.git')).toBe('https://host/x.git');
  expect(withoutCredentials('git@host:x.git')).toBe('git@host:x.git');
});
