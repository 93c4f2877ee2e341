# Which of FAISS' sources are compiled: those of flat and HNSW indexes, and of the functions of its C interface that the
# crate `faiss` calls for them. Read by FAISS' project, which knows its targets only when it has been read whole.
#
# One that is missing here is a symbol that the linker misses. To use another kind of index: its sources, and `kinds.cpp`.
cmake_language(DEFER CALL ltmc_choose_sources)

function(ltmc_choose_sources)
  set_property(TARGET faiss PROPERTY SOURCES
    "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kinds.cpp"
    Index.cpp
    IndexFlat.cpp
    IndexFlatCodes.cpp
    IndexHNSW.cpp
    impl/AuxIndexStructures.cpp
    impl/CodePacker.cpp
    impl/FaissException.cpp
    impl/HNSW.cpp
    impl/IDSelector.cpp
    impl/io.cpp
    utils/Heap.cpp
    utils/distances.cpp
    utils/distances_fused/avx512.cpp
    utils/distances_fused/distances_fused.cpp
    utils/distances_fused/simdlib_based.cpp
    utils/distances_simd.cpp
    utils/extra_distances.cpp
    utils/partitioning.cpp
    utils/random.cpp
    utils/sorting.cpp
    utils/utils.cpp
  )
  set_property(TARGET faiss_c PROPERTY SOURCES
    AutoTune_c.cpp
    IndexIVF_c.cpp
    Index_c.cpp
    error_impl.cpp
    impl/AuxIndexStructures_c.cpp
    index_factory_c.cpp
    index_io_c.cpp
  )
endfunction()
