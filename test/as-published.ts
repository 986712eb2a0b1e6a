// Stories walk the product as its users have it: the package is made once for all of them, inside the checkout, where its native dependencies are found.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { packageIn } from '../tools/package.ts';

export default async function setUp(): Promise<() => void> {
  const above = join(import.meta.dirname, '..', 'node_modules', '.cache');
  mkdirSync(above, { recursive: true });
  const folder = mkdtempSync(join(above, 'published-'));
  process.env.STORY_COMMAND = await packageIn(folder);
  return () => rmSync(folder, { recursive: true, force: true });
}
