// What several of our extensions do to the methods of a node's class.

/** After `method` of a class, also `then(this, ...arguments)`. */
export function chain(prototype, method, then) {
  const before = prototype[method];
  prototype[method] = function (...values) {
    const result = before?.apply(this, values);
    then(this, ...values);
    return result;
  };
}
