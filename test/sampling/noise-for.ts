import { type NdView, nd } from 'umwelt';
import { RowNoise } from 'umwelt/sampling';
import type { Distribution } from '../../src/sampling/distribution.js';

/** The noise that a distribution takes, for rows named by trajectory ids. */
export function noiseFor(
  { noiseKind, noiseWidth }: Pick<Distribution, 'noiseKind' | 'noiseWidth'>,
  trajectory: Uint32Array,
  seed = 1,
): NdView {
  const rows = new RowNoise(seed, 0, 0, trajectory);
  if (noiseKind !== 'gumbel') return rows[noiseKind](noiseWidth);
  const { data, shape } = rows.uniform(noiseWidth);
  return nd(
    data.map((u) => -Math.log(-Math.log(u + 2 ** -25))),
    shape,
  );
}
