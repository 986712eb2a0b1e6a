import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Vault } from './vault.ts';

let folder: string;
let vault: Vault;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'stellwerk-vault-'));
  vault = Vault.open(join(folder, 'master.key'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const refused = 'cannot be opened';

describe('a sealed secret', () => {
  it('opens for its place, whatever characters it has, and gives nothing away', () => {
    for (const secret of ['', 'geheim', 'zwei\nZeilen', '🔑 ключ \0']) {
      const sealed = vault.seal(secret, 'run/w1/r7');
      expect(vault.unseal(sealed, 'run/w1/r7')).toBe(secret);
      if (secret) expect(Buffer.from(sealed, 'base64').toString('latin1')).not.toContain(secret);
    }
  });

  it('looks different each time it is sealed', () => {
    expect(vault.seal('geheim', 'p')).not.toBe(vault.seal('geheim', 'p'));
  });

  it('does not open for another place', () => {
    const sealed = vault.seal('geheim', 'run/w1/r7');
    for (const place of ['run/w1/r8', 'run/w1', '', 'RUN/W1/R7'])
      expect(() => vault.unseal(sealed, place)).toThrow(refused);
  });

  it('does not open when a bit of it was changed, or some of it is missing', () => {
    const bytes = Buffer.from(vault.seal('geheim', 'p'), 'base64');
    for (let at = 0; at < bytes.length; at++) {
      const changed = Buffer.from(bytes);
      changed[at]! ^= 1;
      expect(() => vault.unseal(changed.toString('base64'), 'p')).toThrow(refused);
      expect(() => vault.unseal(bytes.subarray(0, at).toString('base64'), 'p')).toThrow(refused);
    }
  });

  it('does not open with another key, and the error names the place but no secret', () => {
    const other = Vault.open(join(folder, 'other.key'));
    const error = (() => {
      try {
        return other.unseal(vault.seal('geheim', 'package-indexes'), 'package-indexes');
      } catch (thrown) {
        return thrown as Error;
      }
    })();
    expect(String(error)).toContain('package-indexes');
    expect(String(error)).not.toContain('geheim');
  });
});

describe('the master key', () => {
  it('is made once, for its owner alone, and is good after a restart', () => {
    const file = join(folder, 'master.key');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readdirSync(folder)).toEqual(['master.key']);
    const before = readFileSync(file);
    const sealed = vault.seal('geheim', 'p');
    expect(Vault.open(file).unseal(sealed, 'p')).toBe('geheim');
    expect(readFileSync(file).equals(before)).toBe(true);
  });

  it('cut short is refused instead of replaced', () => {
    const file = join(folder, 'short.key');
    writeFileSync(file, 'short', { mode: 0o600 });
    expect(() => Vault.open(file)).toThrow('must hold 32 bytes; restore it from a backup');
    expect(readFileSync(file, 'utf8')).toBe('short');
  });

  it('is made although a crash left half of one', () => {
    writeFileSync(join(folder, 'next.key.new'), 'half');
    const next = Vault.open(join(folder, 'next.key'));
    expect(next.unseal(next.seal('geheim', 'p'), 'p')).toBe('geheim');
    expect(readdirSync(folder)).toEqual(['master.key', 'next.key']);
  });
});
