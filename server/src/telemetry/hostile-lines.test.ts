import { mutated, valueOrRefusal } from '@stellwerk/contract/mutated.fixture.ts';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readJournal } from './journal-lines.ts';

const lines = [
  '["m","loss",0.5,1,1700000000.25]\n',
  '["l","list",[1,"NaN",null],null,1700000000]\n',
  '["r","row",{"a":1,"b":"x"},2,1700000000]\n["t","table",{"a":[1,2]},0,1]\n',
  '["o","picture","image",{"path":"outputs/a.png"},0,1]\n',
  '["tag","key","value"]\n["prop","key","value"]\n["param","alpha",0.1]\n["name","a name"]\n',
  '["state","completed",null,1700000000]\n["file","outputs/a","sha256:00",1]\n',
];

test('journal lines, whatever became of them, are entries or a refusal that names the line', async () => {
  await fc.assert(
    fc.asyncProperty(mutated(...lines), async (text) => {
      const whole = text.slice(0, text.lastIndexOf('\n') + 1);
      const content = await valueOrRefusal(() => readJournal(whole));
      for (const { points } of content?.series.values() ?? []) expect(points?.steps.length).toBe(points?.times.length);
      expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    }),
    { numRuns: 4_000 },
  );
});
